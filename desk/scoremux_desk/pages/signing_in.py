"""Signing in and out."""

import hashlib
import secrets

from starlette.responses import Response

from scoremux_desk.database import accounts, reads
from scoremux_desk.errors import SignInError
from scoremux_desk.pages.rendering import show
from scoremux_desk.pages.visits import Visit, see

_BEFORE = "desk-before"
_MARK_S = 365 * 86_400


def form(visit: Visit, message: str = "", status: int = 200) -> Response:
    """Show the form. A key of its own, in a cookie and in the form, ties the two together."""
    if visit.signed_in is not None:
        return see("/")
    if visit.user and not visit.request.query_params.get("out"):
        with visit.reading() as connection:
            account = accounts.account_elsewhere(connection, visit.user)
        if account is not None:
            return begin(visit, accounts.begin_session(visit.desk.database, account))
        message = message or visit.say("The desk has no account for {user} that signs in elsewhere.", user=visit.user)
    key = secrets.token_urlsafe(16)
    shown = show(visit, "login.html", status, message=message, key=key, name=visit.text("name"), user=visit.user)
    shown.set_cookie(_BEFORE, key, 3600, httponly=True, samesite="strict", secure=visit.desk.secure)
    return shown


def sign_in(visit: Visit) -> Response:
    """Begin a new session, whatever cookie the browser had."""
    before = visit.request.cookies.get(_BEFORE, "")
    if not before or not accounts.same(visit.text("key"), before):
        return form(visit, visit.say("The form was too old. Please try again."), 403)
    address = visit.request.client.host if visit.request.client else ""
    desk = visit.desk
    name = visit.text("name")
    mark_name = f"desk-browser-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"
    mark = visit.request.cookies.get(mark_name, "")
    try:
        cookie, mark = accounts.sign_in(desk.database, name, visit.text("password"), address, desk.hasher, mark)
    except SignInError as error:
        return form(visit, visit.sentence(error), 429 if "attempts" in str(error) else 401)
    answer = begin(visit, cookie)
    answer.delete_cookie(_BEFORE)
    answer.set_cookie(
        mark_name, mark, max_age=_MARK_S, path="/login", httponly=True, samesite="strict", secure=desk.secure
    )
    return answer


def begin(visit: Visit, cookie: str) -> Response:
    """Give the browser its session, and send it to the queues."""
    answer = see("/")
    desk = visit.desk
    life = int(accounts.SESSION_S)
    answer.set_cookie(desk.cookie, cookie, max_age=life, httponly=True, samesite="lax", secure=desk.secure)
    return answer


def sign_out(visit: Visit) -> Response:
    """End the session, and give back what this person was reading."""
    with visit.desk.database.write() as connection:
        accounts.end_session(connection, visit.person)
        reads.release(connection, visit.person.id)
    answer = see("/login?out=1")  # where the proxy's name does not sign the person in again
    answer.delete_cookie(visit.desk.cookie, secure=visit.desk.secure, httponly=True)
    return answer
