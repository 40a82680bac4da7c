"""The work of raters: rows come in, wait in queues, are read, decided, and settled."""
