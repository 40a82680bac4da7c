"""The store: task packages on disk and the manifest that says which version of each task is live."""
