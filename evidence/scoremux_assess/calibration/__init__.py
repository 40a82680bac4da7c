"""Calibration: temperatures, thresholds that keep a promise, and what is unusual, from labelled rows."""
