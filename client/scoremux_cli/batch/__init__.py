"""A batch job: files in, parts out, a journal between. It may be killed at any moment and goes on where it was."""
