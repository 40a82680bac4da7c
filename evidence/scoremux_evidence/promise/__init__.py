"""Calibration: temperatures, thresholds that keep a promise, and limits of unusual rows, from labelled rows."""
