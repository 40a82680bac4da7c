"""Errors of the export.

ScoremuxError
└── ExportError
    ├── ModelError     the model cannot be opened or exported; names the module that prevents it
    └── ParityError    the exported graph does not give PEFT's logits
"""

from scoremux_client.errors import ScoremuxError


class ExportError(ScoremuxError):
    """Base of the export's errors."""


class ModelError(ExportError):
    """The model cannot be opened or exported."""


class ParityError(ExportError):
    """The exported graph does not give PEFT's logits."""
