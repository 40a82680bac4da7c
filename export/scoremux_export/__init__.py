"""Exports: a Hugging Face model to a graph with open sites, proved against PEFT. Beside training, the only place with torch."""
