"""Other ways to serve 27 LoRA tasks, behind the interface that ours has: `python -m benchmarks peers`."""
