"""Errors of training.

ScoremuxError
└── TrainError
    ├── DataError        the labelled responses or tasks cannot be trained on; names file, line, column or task
    └── RecipeError      a configuration is wrong; names its key

No message ever holds a response's text.
"""

from scoremux_client.errors import ScoremuxError


class TrainError(ScoremuxError):
    """Training cannot go on; base of the others."""


class DataError(TrainError):
    """The labelled responses or the tasks cannot be trained on."""


class RecipeError(TrainError):
    """A configuration is wrong."""
