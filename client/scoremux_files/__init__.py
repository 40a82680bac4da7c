"""Files: reading, atomic writing, locks, digests, settings, and rows of data files. Every other package uses it."""
