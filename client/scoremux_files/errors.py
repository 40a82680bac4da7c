"""Errors of files, and the one place where the operating system's errors become sentences.

    ScoremuxError              base of every error this project raises on purpose
    └── InputError             what the caller passed in cannot be sent or read

Every package has its own tree under `ScoremuxError`; `reading` and `writing` raise the class that the caller names.
No message ever holds a response's text.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_REASONS = {
    errno.ELOOP: "it is a symbolic link; copy what it points to (cp -rL)",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "part of its path is a file, not a folder",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}
"""Error numbers whose own text does not say what to do; all others are told in the system's words."""


class ScoremuxError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(ScoremuxError):
    """The caller's input cannot be sent or read."""


def reason(error: Exception) -> str:
    """Return why the operating system refused, without the path, as the end of a sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return str(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error that has a word, or the error's class where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def first_of(names: Sequence[str], most: int = 10, separator: str = ", ") -> str:
    """Return the first `most` names for a message, and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def for_each(
    items: Sequence[Item], read: Callable[[Item], Result], raises: type[ScoremuxError], what: str
) -> list[Result]:
    """Return what a function reads of each item. Raises one error for all errors of the class `raises`.

    what: The items, as the message calls them.
    """
    results, wrong = list[Result](), list[ScoremuxError]()
    for item in items:
        try:
            results.append(read(item))
        except raises as error:
            wrong.append(error)
    if wrong:
        head = f"{len(wrong)} of {len(items)} {what} are refused:"
        raise wrong[0] if len(wrong) == 1 else raises("\n  ".join([head, *map(str, wrong)]))
    return results


def reading(path: Path, raises: type[Exception] = InputError) -> AbstractContextManager[None]:
    """Map errors of reading `path` to `raises`, a class of the caller's own tree: "PATH cannot be read: REASON".

    A caller that expects a missing file catches FileNotFoundError inside the block.
    """
    return _mapped(path, "read", raises)


def writing(path: Path, raises: type[Exception] = InputError) -> AbstractContextManager[None]:
    """Map errors of writing `path` to one of `raises`: "PATH cannot be written: REASON"."""
    return _mapped(path, "written", raises)


@contextmanager
def parsing(message: str, raises: type[Exception] = InputError) -> Iterator[None]:
    """Map what damaged content makes its reader raise to `raises`; the message names the file and says what to do."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise raises(message) from error


@contextmanager
def _mapped(path: Path, verb: str, raises: type[Exception]) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise raises(f"{path} cannot be {verb}: {reason(error)}") from error
