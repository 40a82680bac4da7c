"""A call: its requests, their size, and the servers that they are tried on."""
