"""Errors of the review desk.

    ScoremuxError
    └── ReviewError                the action is not possible; nothing was changed
        ├── LeaseLostError         this rater has lost the response: it went to someone else, or was withdrawn
        ├── TooSoonError           the response has not been shown for long enough to be read
        ├── TooLateError           the decision can no longer be undone
        ├── NotAllowedError        this person's role does not permit it
        ├── LostCursorError        the record does not have the change that a cursor names
        ├── SignInError            the name or the password is wrong, or there were too many attempts
        ├── BrokenRecordError      the record's chain does not hold; the message names the first entry that is wrong
        └── DatabaseError          the database refused or failed
            └── OutdatedError      another version of scoremux has changed the database's format

No message ever holds a response's text. Messages that raters meet are in the catalogues of their languages.
"""

from typing import Any

from scoremux_files import ScoremuxError


class ReviewError(ScoremuxError):
    """The action is not possible.

    Attributes:
        message: Without its values, such as ``task {task} has no level {level}``, as catalogues of languages have it.
        status: Of the page that says so.
    """

    status = 400

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message.format(**values) if values else message)
        self.message = message
        self.values = values


class LeaseLostError(ReviewError):
    status = 409


class TooSoonError(ReviewError):
    status = 409


class TooLateError(ReviewError):
    status = 409


class NotAllowedError(ReviewError):
    status = 403


class LostCursorError(ReviewError):
    status = 410


class SignInError(ReviewError):
    status = 401


class BrokenRecordError(ReviewError):
    """The record's chain does not hold."""


class DatabaseError(ReviewError):
    status = 503


class OutdatedError(DatabaseError):
    """Another version of scoremux has changed the database's format."""
