"""Which responses people label next: a probability sample that covers what students write and what is uncertain."""
