"""Batches: a file of rows comes in, and the job of `scoremux score` computes it in the background."""
