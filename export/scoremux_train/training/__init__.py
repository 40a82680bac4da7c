"""Tables of all tasks and folds, trained in one mixed batch."""
