"""The backbone and what goes into it: texts, tokens, buckets and tables."""
