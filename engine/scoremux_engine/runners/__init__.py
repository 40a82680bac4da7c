"""Backbone runners: the one seam between the engine and what computes."""
