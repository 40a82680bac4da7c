"""`scoremux top`: what one or several servers are doing, read from their metrics."""
