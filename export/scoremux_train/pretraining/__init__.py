"""`scoremux pretrain`: masked-token training of a backbone on unlabelled responses, before it is frozen again."""
