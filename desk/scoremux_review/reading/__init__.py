"""What raters do: rows come in, wait in queues, are read, decided, and settled."""
