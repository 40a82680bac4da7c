"""The server side of scoremux: assembles a model repository, starts Triton and stops it cleanly."""
