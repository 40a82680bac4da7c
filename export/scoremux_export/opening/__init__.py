"""A model opened for adapters: its sites and its head read their weights from inputs."""
