"""Exports: a Hugging Face model to a graph with open sites, proved against PEFT. The only place with torch."""
