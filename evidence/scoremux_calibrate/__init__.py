"""`scoremux calibrate` and `scoremux judge`, which need both the engine and the statistics."""
