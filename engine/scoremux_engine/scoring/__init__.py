"""The way of a batch through the engine: text, tokens, buckets, micro-batches, logits, levels, outcomes."""
