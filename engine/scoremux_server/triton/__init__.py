"""Triton: its installation, command line, model repository and processes."""
