"""The commands `evaluate`, `report`, `compare`, `sample`, `calibrate`, `watch` and `dossier`."""
