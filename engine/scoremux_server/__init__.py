"""The server side of scoremux: profiles, a model repository assembled from them, and a watched Triton."""
