"""Backbone runners: what computes the graph. All have the interface `BackboneRunner`."""
