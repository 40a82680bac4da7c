"""Files of rows: responses in, scored rows out."""
