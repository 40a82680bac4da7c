"""The behaviour of this machine with a repository: whether rows keep their bits, and which settings are the best."""
