"""From labelled responses to PEFT adapters: all tasks and folds in one mixed batch."""
