"""TensorRT plans and graphs of reduced precision."""
