"""Exports: a Hugging Face encoder to a graph with open sites, proved against PEFT. The only place with torch."""
