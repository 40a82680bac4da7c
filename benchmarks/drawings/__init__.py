"""One drawing each: from the newest result rows to a figure."""
