"""Benchmarks and proofs: each module prints a table and appends rows with provenance to benchmarks/results/."""
