"""The audit log: which text got which level from what, one line a row, without the text."""
