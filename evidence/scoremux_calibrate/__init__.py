"""`scoremux calibrate` and `scoremux judge`: what needs both the engine and the statistics."""
