"""Proxies before the desk: the desk takes addresses, and the name of who is signed in, from them alone."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from scoremux_files import InputError

USER = "scoremux_user"
"""Where a request's scope has the name of who is signed in at the proxy."""

Networks = Sequence[IPv4Network | IPv6Network]


def read_proxies(words: str) -> Networks:
    """Return addresses and networks that commas divide. Raises InputError."""
    try:
        return [ip_network(word.strip()) for word in words.split(",")]
    except ValueError as error:
        raise InputError(f"FORWARDED_ALLOW_IPS is {words}; name proxies by address, such as 10.0.0.7") from error


def behind_proxies(app: ASGIApp, proxies: Networks, user_header: str = "") -> ASGIApp:
    """Return an application that takes the browser's address, and the name of who is signed in, from its proxies."""
    inner: Any = ProxyHeadersMiddleware(app, trusted_hosts=[str(proxy) for proxy in proxies])  # type: ignore[arg-type]

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        names = Headers(scope=scope).getlist(user_header) if scope["type"] == "http" and user_header else []
        if names and not (len(names) == 1 and _is_of(scope, proxies)):
            refused = Response(f"{user_header} is not from the proxy, or is given twice", 403, media_type="text/plain")
            await refused(scope, receive, send)
            return
        user = {USER: names[0].encode("latin-1").decode("utf-8", "replace")} if names else {}
        await inner({**scope, **user}, receive, send)

    return checked


def _is_of(scope: Scope, proxies: Networks) -> bool:
    try:
        address = ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return False
    return any(address in proxy for proxy in proxies)
