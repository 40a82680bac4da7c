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

No message ever holds a response's text.
"""

from scoremux_files import ScoremuxError


class ReviewError(ScoremuxError):
    """The action is not possible. status: of the page that says so."""

    status = 400

    @property
    def sentence(self) -> str:
        return f"{str(self).capitalize()}."


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
