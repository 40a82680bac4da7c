"""The front door: HAProxy before one or many Tritons, with TLS, tokens and a look into every request."""
