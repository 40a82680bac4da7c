"""What out-of-fold predictions say: agreement with people, and how it grows with rows."""
