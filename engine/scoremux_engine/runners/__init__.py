"""Backbone runners, which compute the graph. All extend `BackboneRunner`."""
