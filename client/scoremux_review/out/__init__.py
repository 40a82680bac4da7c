"""What leaves the desk: final scores, labelled rows, statistics."""
