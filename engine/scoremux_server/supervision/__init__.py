"""Watches one running server: finds what is wrong, restarts it, and tells how it is over HTTP."""
