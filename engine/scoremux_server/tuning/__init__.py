"""What this machine does with a repository: whether rows keep their bits, and which settings are the fastest."""
