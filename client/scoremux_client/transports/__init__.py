"""How requests reach a server: over gRPC."""
