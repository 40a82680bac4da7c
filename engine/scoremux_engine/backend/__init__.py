"""The models in Triton's Python backend, with their parameters, queue bounds, metrics and audit log."""
