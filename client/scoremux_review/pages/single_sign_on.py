"""Signing in elsewhere, by OpenID Connect: authorization code with PKCE, state and nonce.

The identity token comes straight from the issuer's token endpoint over TLS, which OpenID Connect Core 3.1.3.7 accepts
in place of its signature; issuer, audience, expiry and nonce are checked. Only people who have an account can sign in:
its name is the value of a claim, by default the e-mail address. Who has a password here signs in with it alone.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from starlette.responses import RedirectResponse, Response

from scoremux_client.errors import InputError
from scoremux_files.settings import parse_object
from scoremux_review.database import accounts
from scoremux_review.errors import NotAllowedError, SignInError
from scoremux_review.pages.signing_in import begin
from scoremux_review.pages.visits import LOOPBACK, Visit

START, BACK = "/login/elsewhere", "/login/back"
_COOKIE = "desk-elsewhere"
_LEEWAY_S = 60.0


@dataclass(frozen=True)
class Issuer:
    """Where people sign in.

    Attributes:
        name: The issuer's URL.
        authorize: Where browsers are sent.
        token: Where codes are traded for identity tokens.
        client_id: The desk's name there.
        client_secret: The desk's secret there.
        redirect: The address of `BACK` as browsers reach it.
        claim: Whose value is the name of an account.
        http: A client for requests to it.
    """

    name: str
    authorize: str
    token: str
    client_id: str
    client_secret: str
    redirect: str
    claim: str
    http: httpx.Client

    @classmethod
    def discover(
        cls,
        issuer: str,
        client_id: str,
        client_secret: str,
        base_url: str,
        claim: str,
        http: httpx.Client | None = None,
    ) -> Issuer:
        """Ask an issuer for its endpoints.

        Args:
            issuer: Its URL, https unless it is this machine.
            client_id: The desk's name there.
            client_secret: The desk's secret there.
            base_url: How browsers reach the desk.
            claim: The claim whose value is the name of an account.
            http: A client for requests to it.

        Raises:
            InputError: it does not answer as OpenID Connect Discovery says.
        """
        http = http or httpx.Client(timeout=10)
        try:
            metadata = http.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration").raise_for_status().json()
            name, authorize, token = (str(metadata[k]) for k in ("issuer", "authorization_endpoint", "token_endpoint"))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{issuer} does not answer as an OpenID Connect issuer does") from error
        if name.rstrip("/") != issuer.rstrip("/"):
            raise InputError(f"{issuer} calls itself {name}; give that name")
        for url in (issuer, authorize, token):
            parts = urlsplit(url)
            if parts.scheme != "https" and parts.hostname not in LOOPBACK:
                raise InputError(f"{url}: signing in elsewhere needs https")
        return cls(name, authorize, token, client_id, client_secret, f"{base_url.rstrip('/')}{BACK}", claim, http)


def start(visit: Visit) -> Response:
    """Send the browser to the issuer."""
    issuer = _issuer(visit)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    asked = {
        "response_type": "code",
        "client_id": issuer.client_id,
        "redirect_uri": issuer.redirect,
        "scope": "openid email profile",
        "state": state,
        "nonce": nonce,
        "code_challenge": _base64url(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    answer = RedirectResponse(f"{issuer.authorize}?{urlencode(asked)}", 303)
    kept = f"{state}.{nonce}.{verifier}"
    secure = visit.desk.secure
    answer.set_cookie(_COOKIE, kept, max_age=600, httponly=True, samesite="lax", secure=secure, path="/login")
    return answer


def back(visit: Visit) -> Response:
    """Take the browser back with a code, and begin a session. Raises SignInError."""
    issuer, asked = _issuer(visit), visit.request.query_params
    state, _, rest = visit.request.cookies.get(_COOKIE, "").partition(".")
    nonce, _, verifier = rest.partition(".")
    if not state or not accounts.same(asked.get("state", ""), state) or not asked.get("code"):
        raise SignInError("signing in elsewhere was not finished; please try again")
    claims = _claims(issuer, asked["code"], verifier)
    now = visit.desk.database.now()
    audience = claims.get("aud")
    fits = (
        claims.get("iss") == issuer.name
        and issuer.client_id in (audience if isinstance(audience, list) else [audience])
        and accounts.same(str(claims.get("nonce", "")), nonce)
        and isinstance(claims.get("exp"), (int, float))
        and claims["exp"] > now - _LEEWAY_S
    )
    if not fits or claims.get("email_verified") is False:
        raise SignInError("the issuer's answer is not for this sign-in; please try again")
    name = claims.get(issuer.claim)
    with visit.desk.database.read() as connection:
        account = accounts.account_elsewhere(connection, name)
    if not isinstance(name, str) or account is None:
        raise SignInError("you have no account at this desk; ask its director for one")
    answer = begin(visit, accounts.begin_session(visit.desk.database, account))
    answer.delete_cookie(_COOKIE, path="/login")
    return answer


def _issuer(visit: Visit) -> Issuer:
    issuer = visit.desk.issuer
    if not isinstance(issuer, Issuer):
        raise NotAllowedError("this desk has no sign-in elsewhere")
    return issuer


def _claims(issuer: Issuer, code: str, verifier: str) -> dict[str, Any]:
    """Trade a code for the identity token's claims. Raises SignInError."""
    grant = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    form = {**grant, "redirect_uri": issuer.redirect}
    try:
        answer = issuer.http.post(issuer.token, data=form, auth=(issuer.client_id, issuer.client_secret))
        payload = str(answer.raise_for_status().json()["id_token"]).split(".")[1]
        return parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SignInError("the issuer did not confirm the sign-in; please try again") from error


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
