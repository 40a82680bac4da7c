"""Signing in elsewhere, by OpenID Connect: authorization code with PKCE, state and nonce.

Authlib makes the request and checks the identity token: signature, issuer, audience, expiry and nonce. What the issuer
sends is bounded in size and time, and its redirects are not followed. Only people who have an account can sign in: its
name is the value of a claim, by default the e-mail address. Who has a password here signs in with it alone.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.responses import RedirectResponse, Response

from scoremux_client.errors import InputError
from scoremux_files.settings import parse_object
from scoremux_review.database import accounts
from scoremux_review.errors import NotAllowedError, SignInError
from scoremux_review.pages.signing_in import begin
from scoremux_review.pages.visits import LOOPBACK, Visit

START, BACK = "/login/elsewhere", "/login/back"
_COOKIE = "desk-elsewhere"
_LEEWAY_S = 60
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a private key: with HS256 the public key, which everybody has, would sign."""
_ANSWER_BYTES, _ANSWER_S, _MOST_ASKED = 1 << 20, 10.0, 4
_ASKING = threading.BoundedSemaphore(_MOST_ASKED)
"""An issuer that is slow must not take all threads of the desk."""


@dataclass(frozen=True)
class Issuer:
    """Where people sign in.

    Attributes:
        name: The issuer's URL.
        authorize: Where browsers are sent.
        token: Where codes are traded for identity tokens.
        keys: Where the public keys of its signatures are.
        algorithms: Of its signatures.
        client_id: The desk's name there.
        client_secret: The desk's secret there.
        redirect: The address of `BACK` as browsers reach it.
        claim: Whose value is the name of an account.
        http: A client for requests to it.
        answer_s: Each of its answers takes no longer.
    """

    name: str
    authorize: str
    token: str
    keys: str
    algorithms: Sequence[str]
    client_id: str
    client_secret: str
    redirect: str
    claim: str
    http: httpx.Client
    answer_s: float = _ANSWER_S

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
        http = http or httpx.Client(timeout=_ANSWER_S)
        try:
            metadata = _ask(http, _ANSWER_S, "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            authorize, token, keys = (
                str(metadata[k]) for k in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            )
            name, offered = str(metadata["issuer"]), metadata.get("id_token_signing_alg_values_supported", ["RS256"])
            algorithms = [algorithm for algorithm in _ALGORITHMS if algorithm in offered]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{issuer} does not answer as an OpenID Connect issuer does") from error
        if name.rstrip("/") != issuer.rstrip("/"):
            raise InputError(f"{issuer} calls itself {name}; give that name")
        if not algorithms:
            raise InputError(f"{issuer} signs with no private key; one of {', '.join(_ALGORITHMS)} is needed")
        for url in (issuer, authorize, token, keys):
            parts = urlsplit(url)
            if parts.scheme != "https" and parts.hostname not in LOOPBACK:
                raise InputError(f"{url}: signing in elsewhere needs https")
        redirect = f"{base_url.rstrip('/')}{BACK}"
        return cls(name, authorize, token, keys, algorithms, client_id, client_secret, redirect, claim, http)


def start(visit: Visit) -> Response:
    """Send the browser to the issuer."""
    issuer = _issuer(visit)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    query = {"redirect_uri": issuer.redirect, "scope": "openid email profile", "state": state, "nonce": nonce}
    challenge = {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
    answer = RedirectResponse(prepare_grant_uri(issuer.authorize, issuer.client_id, "code", **query, **challenge), 303)
    cookie = f"{state}.{nonce}.{verifier}"
    secure = visit.desk.secure
    answer.set_cookie(_COOKIE, cookie, max_age=600, httponly=True, samesite="lax", secure=secure, path="/login")
    return answer


def back(visit: Visit) -> Response:
    """Take the browser back with a code, and begin a session. Raises SignInError."""
    issuer, query = _issuer(visit), visit.request.query_params
    state, _, rest = visit.request.cookies.get(_COOKIE, "").partition(".")
    nonce, _, verifier = rest.partition(".")
    if not (state and nonce and verifier and query.get("code")) or not accounts.same(query.get("state", ""), state):
        raise SignInError("signing in elsewhere was not finished; please try again")
    claims = _claims(issuer, query["code"], verifier, nonce, int(visit.desk.database.now()))
    if claims.get("email_verified") is False:
        raise SignInError("the issuer has not verified this e-mail address")
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


def _claims(issuer: Issuer, code: str, verifier: str, nonce: str, now: int) -> dict[str, Any]:
    """Trade a code for an identity token; check it, and return its claims. Raises SignInError."""
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    form["redirect_uri"] = issuer.redirect
    if not _ASKING.acquire(blocking=False):
        raise SignInError("the issuer is slow, and others are waiting for it; please try again")
    try:
        ask = partial(_ask, issuer.http, issuer.answer_s)
        answer = ask("POST", issuer.token, data=form, auth=(issuer.client_id, issuer.client_secret))
        keys = KeySet.import_key_set(ask("GET", issuer.keys))  # type: ignore[arg-type]
        token = jwt.decode(str(answer["id_token"]), keys, algorithms=list(issuer.algorithms))
        expected = {"iss": {"value": issuer.name}, "aud": {"essential": True, "value": issuer.client_id}}
        checks = {"nonce": nonce, "client_id": issuer.client_id, "access_token": answer.get("access_token")}
        claims = CodeIDToken(token.claims, token.header, expected, checks)
        claims.validate(now, _LEEWAY_S)
    except JoseError as error:
        raise SignInError(f"the issuer's answer is not for this sign-in ({error.error}); please try again") from error
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SignInError("the issuer did not confirm the sign-in; please try again") from error
    finally:
        _ASKING.release()
    return dict(claims)


def _ask(http: httpx.Client, within_s: float, method: str, url: str, **options: Any) -> dict[str, Any]:
    """Return the JSON object that an issuer answers. Raises ValueError for another answer, a large or a slow one."""
    content, deadline = bytearray(), time.monotonic() + within_s
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    with http.stream(method, url, headers=headers, follow_redirects=False, **options) as answer:
        if answer.status_code != 200 or answer.headers.get("content-encoding", "identity") != "identity":
            raise ValueError(f"{url} answers {answer.status_code}")
        for block in answer.iter_bytes():
            content += block
            if len(content) > _ANSWER_BYTES or time.monotonic() > deadline:
                raise ValueError(f"{url} answers too much, or too slowly")
    return parse_object(bytes(content))
