"""One request to the desk: who sent it, and the fields of its form."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scoremux_desk.database.accounts import Person, person_of
from scoremux_desk.database.connection import Connection, Database
from scoremux_desk.errors import NotAllowedError, ReviewError
from scoremux_desk.pages.languages import LANGUAGE, LANGUAGES, preferred, words_of
from scoremux_desk.pages.proxy import USER
from scoremux_desk.reading.leases import RANDOM, Draw
from scoremux_desk.reading.task_access import TaskAccess
from scoremux_files import InputError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def check_addresses(address: str, url: str | None, user_header: str) -> None:
    """Refuse a desk that others reach without a proxy, or over an unencrypted public URL. Raises InputError."""
    if address not in LOOPBACK and not url:
        raise InputError(f"{address} is reached from elsewhere: give --public-url, and let a proxy there do the TLS")
    if user_header and not url:
        raise InputError("--user-header needs --public-url: a proxy signs people in")
    parts = urlsplit(url or "https://localhost")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--public-url is {url}; it is how browsers reach the desk, such as https://desk.example.org")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise InputError(f"--public-url {url} has no encryption: passwords could be read on the way; use https")


@dataclass
class Desk:
    """The desk, which all pages share.

    Attributes:
        public_url: How browsers reach the desk through a proxy; with https, cookies are for encrypted connections
            alone.
        user_header: In which a proxy names who is signed in there (`proxy.behind_proxies`); empty for none.
        draw: Returns the random numbers that decide what a person reads next.
        answer_s: Pages of responses take at least so long, so that the time tells nothing about a paper.
        stop: Called with the reason when the desk cannot go on.
    """

    database: Database
    public_url: str | None = None
    address: str = "127.0.0.1"
    user_header: str = ""
    hasher: PasswordHasher = field(default_factory=PasswordHasher)
    draw: Draw = RANDOM
    answer_s: float = 0.06
    stop: Callable[[str], None] = lambda _: None

    @property
    def secure(self) -> bool:
        return bool(self.public_url and self.public_url.startswith("https://"))

    @property
    def cookie(self) -> str:
        return "__Host-desk" if self.secure else "desk"

    def hosts(self) -> set[str]:
        """Return the names under which the desk may be asked for."""
        named = {urlsplit(self.public_url).hostname or ""} if self.public_url else set()
        return {*LOOPBACK, self.address, *named}


@dataclass
class Visit:
    """One request.

    Attributes:
        signed_in: Who sent it; None before they have signed in.
        waiting: How many alerts, questions and raters wait for a leader; empty for raters, who do not see them.
    """

    desk: Desk
    request: Request
    signed_in: Person | None
    form: FormData
    waiting: dict[str, int] = field(default_factory=dict)

    @property
    def person(self) -> Person:
        if self.signed_in is None:
            raise NotAllowedError("sign in first")
        return self.signed_in

    def reading(self) -> AbstractContextManager[Connection]:
        """Give a transaction that changes nothing (`Database.read`)."""
        return self.desk.database.read()

    @contextmanager
    def writing(self) -> Iterator[TaskAccess]:
        """Give this person a transaction as the only writer (`Database.write`).

        Raises NotAllowedError where their session or account was closed since the request began.
        """
        with self.desk.database.write() as connection:
            if person_of(connection, self.request.cookies.get(self.desk.cookie, "")) is None:
                raise NotAllowedError("your session has ended; sign in again")
            yield TaskAccess(connection, self.person)

    @property
    def user(self) -> str:
        """Who is signed in at the proxy, as it says; empty if it says nothing."""
        return str(self.request.scope.get(USER, ""))

    @property
    def language(self) -> str:
        """The language of raters' pages: as chosen by a link, before in this browser, or by the browser."""
        chosen = self.request.query_params.get("language", self.request.cookies.get(LANGUAGE, ""))
        return chosen if chosen in LANGUAGES else preferred(self.request.headers.get("accept-language", ""))

    def say(self, message: str, **values: Any) -> str:
        """Return a message in this visit's language."""
        said = words_of(self.language).gettext(message)
        return said.format(**values) if values else said

    def sentence(self, error: ReviewError) -> str:
        """Return an error as a sentence in this visit's language."""
        said = self.say(error.message, **error.values)
        return f"{said[:1].upper()}{said[1:]}."

    @property
    def by_script(self) -> bool:
        """Whether our script asks, which puts the answer's main part into the page."""
        return self.request.headers.get("x-desk") == "1"

    def text(self, name: str) -> str:
        """Return a field of the form, empty if it is missing."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def number(self, name: str) -> int | None:
        """Return a field as a whole number, None if it is empty. Raises ReviewError."""
        value = self.text(name)
        if not value:
            return None
        if not re.fullmatch("[0-9]{1,15}", value):
            raise ReviewError("{field} is not a whole number", field=name)
        return int(value)


def see(path: str) -> Response:
    """Send the browser on to a page, after a form."""
    return RedirectResponse(path, 303)
