"""Decisions about scored rows: confidence, conditions and routes, fitted from labelled rows."""
