"""Exports: a Hugging Face model to a graph with open sites, proved against PEFT. It and training need torch."""
