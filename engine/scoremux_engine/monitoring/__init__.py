"""Metrics of the scorer: what is counted, and how it reaches Prometheus through Triton."""
