"""People: accounts with a role, sign-in, and sessions.

A session is a random cookie, of which the database keeps the sha256 alone, and a form key that every form must send
back. Signing in always begins a new session.
"""

import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, insert, select

from scoremux_desk.database import log
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import (
    ATTEMPT,
    IS_ACTIVE,
    PERSON,
    SESSION,
    attempts,
    changed,
    deleted,
    found,
    inserted,
    number_of,
    people,
    sessions,
    time_of,
)
from scoremux_desk.errors import ReviewError, SignInError

ROLES = ("rater", "leader", "director")
"""Each may do what those before it may."""

SESSION_S = 12 * 3600.0
MIN_PASSWORD = 10
_WINDOW_S = 300.0
_MOST_FAILURES = 5
_MOST_FROM_ADDRESS = 50
MOST_NAME = 80
_NAME = "name "
_BROWSER = "browser "
_CLOCK_S = 300.0  # how far the clocks of two desks may differ
_MOST_HASHES = 4
_HASHING = threading.BoundedSemaphore(_MOST_HASHES)
"""Each hash takes 64 MiB and a core: more at once would only take memory from the readers."""
_HASHER = PasswordHasher()


@dataclass(frozen=True)
class Person:
    """Someone who is signed in.

    Attributes:
        form_key: The key that the forms of this session send back.
        session: The digest of the session's cookie, which names it in the database.
        task: Whose responses they read; empty for all.
        reason: The queue they read from; empty for all.
    """

    id: int
    name: str
    role: str
    form_key: str
    session: str
    task: str
    reason: str

    def may(self, role: str) -> bool:
        """Return whether this person may do what a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def add_person(
    database: Database, name: str, role: str, password: str | None, by: str, hasher: PasswordHasher = _HASHER
) -> int:
    """Add an account, without a password for a person who signs in elsewhere; return its id. Raises ReviewError."""
    _check_role(role)
    check_name(name, "a name")
    hashed = None if password is None else _hashed(password, hasher)
    with database.write() as connection:
        if found(connection, people, PERSON.name == name):
            raise ReviewError(f"there is a person named {name!r} already")
        values = {"name": name, "role": role, "active": True}
        person: int = inserted(connection, people, password=hashed, **values)
        body = {"person": person, "password": password_digest(hashed), **values}
        log.append(connection, by, "person added", body)
    return person


def change_person(
    database: Database,
    name: str,
    by: str,
    role: str | None = None,
    active: bool | None = None,
    password: str | None = None,
    hasher: PasswordHasher = _HASHER,
) -> None:
    """Change a role or a password, or close an account unless it is the last director's. Raises ReviewError."""
    _check_role(role)
    hashed = None if password is None else _hashed(password, hasher)
    with database.write() as connection:
        account = found(connection, people, PERSON.name == name)
        if account is None:
            raise ReviewError(f"no person is named {name!r}")
        values = {"role": role, "active": active, "password": hashed}
        values = {key: value for key, value in values.items() if value is not None}
        changed(connection, people, PERSON.id == account.id, **values)
        deleted(connection, sessions, SESSION.person == account.id)
        if account.role == "director" and not number_of(connection, PERSON.role == "director", IS_ACTIVE):
            raise ReviewError("the desk needs a director")
        body = {"person": account.id, "name": name, **values}
        if hashed:
            body["password"] = password_digest(hashed)
        log.append(connection, by, "person changed", body)


def listed(connection: Connection) -> list[Row[tuple[int, str, str, bool]]]:
    """Return all accounts by name: id, name, role, active."""
    columns = (PERSON.id, PERSON.name, PERSON.role, PERSON.active)
    return list(connection.execute(select(*columns).order_by(PERSON.name)))


def sign_in(
    database: Database, name: str, password: str, address: str, hasher: PasswordHasher = _HASHER, browser: str = ""
) -> tuple[str, str]:
    """Check a password and begin a session. Raises SignInError.

    Args:
        address: Where they are, for the limit of attempts.
        browser: The mark of a browser in which this person has signed in before: its attempts count apart, so that
            strangers' guesses do not lock it out.

    Returns:
        The session's cookie, and the mark for the browser.
    """
    with database.write() as connection:
        account = found(connection, people, PERSON.name == name, IS_ACTIVE)
        known = account is not None and account.password and same(browser, _browser_mark(account))
        names = f"{_BROWSER}{account.id}" if account and known else f"{_NAME}{name[:MOST_NAME]}"
        subjects = {names: _MOST_FAILURES} | ({} if known else {f"address {address}": _MOST_FROM_ADDRESS})
        # Counted before the password is looked at, so that many at once do not get past the limit.
        _count_attempt(connection, subjects)
    if not _is_password(account, password, hasher) or account is None:
        _note_failure(database, name, address, names, has_account=account is not None)
        raise SignInError("the name or the password is wrong")
    with database.write() as connection:
        deleted(connection, attempts, ATTEMPT.subject.in_(subjects))
    return begin_session(database, account.id), _browser_mark(account)


def _is_password(account: Any | None, password: str, hasher: PasswordHasher) -> bool:
    """Check a password, for an unknown name or one without a password in as much time."""
    stored = account.password if account is not None and account.password else _hash_of_unknown(hasher)
    try:
        with _HASHING:
            hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
    return account is not None and account.password is not None


def _count_attempt(connection: Connection, subjects: Mapping[str, int]) -> None:
    """Count an attempt to sign in for each of its subjects. Raises SignInError if one has had too many."""
    now = time_of(connection)
    # What lies ahead was noted before the clock was set back.
    deleted(connection, attempts, (ATTEMPT.at < now - _WINDOW_S) | (ATTEMPT.at > now + _CLOCK_S))
    for subject, most in subjects.items():
        if number_of(connection, ATTEMPT.subject == subject) >= most:
            raise SignInError("too many attempts; wait five minutes")
    connection.execute(insert(attempts), [{"subject": subject, "at": now} for subject in subjects])


def _browser_mark(account: Any) -> str:
    """Return the mark of browsers in which this account's password was given; a new password makes it useless."""
    return hmac.digest(account.password.encode(), f"browser {account.id}".encode(), "sha256").hex()


def _note_failure(database: Database, name: str, address: str, subject: str, has_account: bool) -> None:
    """Keep a failed sign-in in the record. An unknown name is not kept: it may be a password in the wrong field."""
    with database.write() as connection:
        by = name if has_account else "unknown name"
        log.append(connection, by, "sign-in failed", {"address": address})
        if number_of(connection, ATTEMPT.subject == subject) >= _MOST_FAILURES:
            log.append(connection, by, "locked out", {"address": address, "minutes": _WINDOW_S / 60})


def begin_session(database: Database, person: int) -> str:
    cookie = secrets.token_urlsafe(32)
    with database.write() as connection:
        now = time_of(connection)
        deleted(connection, sessions, SESSION.expires_at < now)
        inserted(
            connection,
            sessions,
            digest=log.sha256_of(cookie),
            person=person,
            form_key=secrets.token_urlsafe(24),
            expires_at=now + SESSION_S,
        )
        name = connection.execute(select(PERSON.name).where(PERSON.id == person)).scalar_one()
        log.append(connection, name, "signed in", {})
    return cookie


def person_of(connection: Connection, cookie: str) -> Person | None:
    """Return who a cookie belongs to; None for one that is unknown or expired."""
    now = time_of(connection)
    # A session that ends later than any can was begun before the clock was set back.
    lives = SESSION.expires_at.between(now, now + SESSION_S + _CLOCK_S)
    valid = (SESSION.digest == log.sha256_of(cookie)) & lives & IS_ACTIVE
    query = select(
        PERSON.id, PERSON.name, PERSON.role, SESSION.form_key, SESSION.digest, SESSION.task, SESSION.reason
    ).join(sessions, SESSION.person == PERSON.id)
    session = connection.execute(query.where(valid)).one_or_none()
    return None if session is None else Person(*session)


def account_elsewhere(connection: Connection, name: object) -> int | None:
    """Return the open account of this name that has no password here."""
    query = select(PERSON.id).where(PERSON.name == str(name), IS_ACTIVE, PERSON.password.is_(None))
    return connection.scalar(query)


def choose_queue(connection: Connection, person: Person, task: str, reason: str) -> Person:
    """Note which queue a person reads from; return the person with it."""
    changed(connection, sessions, SESSION.digest == person.session, task=task, reason=reason)
    return replace(person, task=task, reason=reason)


def end_session(connection: Connection, person: Person) -> None:
    deleted(connection, sessions, SESSION.digest == person.session)


def same(value: str, expected: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(value.encode(), expected.encode())


def check_name(name: str, what: str) -> None:
    """Raise ReviewError for a name that an account or a pool cannot have."""
    if not name or len(name) > MOST_NAME or not name.isprintable() or name != name.strip():
        raise ReviewError(f"{what} has 1 to {MOST_NAME} printable characters, and no space at its ends")


def _check_role(role: str | None) -> None:
    if role is not None and role not in ROLES:
        raise ReviewError(f"unknown role {role!r}; the roles are {', '.join(ROLES)}")


def password_digest(hashed: str | None) -> str | None:
    """Return the sha256 of a password's hash, which the record keeps: it proves the hash, and checks no password."""
    return None if hashed is None else log.sha256_of(hashed)


def _hashed(password: str, hasher: PasswordHasher) -> str:
    if len(password) < MIN_PASSWORD:
        raise ReviewError(f"a password has at least {MIN_PASSWORD} characters")
    with _HASHING:
        return hasher.hash(password)


@lru_cache
def _hash_of_unknown(hasher: PasswordHasher) -> str:
    """Return a hash that an unknown name is checked against, so that it takes as long as a known one."""
    return hasher.hash(secrets.token_urlsafe(16))
