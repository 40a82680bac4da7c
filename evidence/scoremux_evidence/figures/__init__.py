"""Statistics of agreement and their intervals."""
