"""The commands `evaluate`, `report`, `compare` and `sample`."""
