"""Where webhooks may point: public addresses by https, and hosts that the operator lists."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from scoremux_api.webhooks.addresses import WebhookAddresses, is_public
from scoremux_api.webhooks.webhook_endpoints import MOST_WEBHOOKS
from scoremux_client.errors import InputError
from scoremux_review.database.outbox import MOST_AT_ONCE

PUBLIC = ("93.184.215.14", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1")
REFUSED = (
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "fe80::1",
    "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1",
)  # fmt: skip


def addresses(url: str, *found: str, allowed: Sequence[str] = ()) -> Sequence[str]:
    return asyncio.run(WebhookAddresses(allowed, lambda *_: found).of(url))[1]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_taken(address: str) -> None:
    assert is_public(address)
    assert addresses("https://lms.example/hooks?x=1", address) == [address]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_only_this_machine_reaches_are_refused(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(InputError, match=r"--allow-webhook lms\.example"):
        addresses("https://lms.example/", "93.184.215.14", address)
    with pytest.raises(InputError):
        addresses("https://lms.example/", address, "93.184.215.14")
    assert addresses("https://LMS.example/", address, allowed=["lms.Example"]) == [address]
    with pytest.raises(InputError, match=r"--allow-webhook other\.example"):
        addresses("https://other.example/", address, allowed=["lms.example"])


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "localhost"])
def test_addresses_in_the_url_are_checked_as_the_system_reads_them(host: str) -> None:
    with pytest.raises(InputError, match="public addresses alone"):
        asyncio.run(WebhookAddresses().of(f"https://{host}/"))


def test_http_is_for_listed_hosts_on_this_machine() -> None:
    assert addresses("http://localhost:9000/", "127.0.0.1", allowed=["localhost"]) == ["127.0.0.1"]
    for found, allowed in (("93.184.215.14", []), ("10.0.0.1", ["lms.example"]), ("93.184.215.14", ["lms.example"])):
        with pytest.raises(InputError, match="takes https"):
            addresses("http://lms.example/", found, allowed=allowed)


@pytest.mark.parametrize(
    "url", ["", "lms.example", "https://", "https:///x", "ftp://a.example/", "file:///etc/passwd", "https://u:p@a.example/",
            "https://a.example/#x", "https://a.example:99999/", "https://a\x00b/", "https://[::1/", "//a.example/"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="URL of"):
        addresses(url, "93.184.215.14")


def test_names_that_hang_hold_up_no_other_name() -> None:
    may_end = threading.Event()

    def resolve(host: str, _: int) -> Sequence[str]:
        if host == "hangs.example":
            may_end.wait(60)
        return ["1.1.1.1"]

    async def look_up() -> Sequence[str]:
        rule = WebhookAddresses((), resolve)
        hanging = [asyncio.create_task(rule.of("https://hangs.example/")) for _ in range(MOST_WEBHOOKS * MOST_AT_ONCE)]
        try:
            await asyncio.sleep(0)
            return (await rule.of("https://lms.example/"))[1]
        finally:
            may_end.set()
            await asyncio.gather(*hanging)

    assert asyncio.run(look_up()) == ["1.1.1.1"]


def test_names_that_cannot_be_resolved_are_refused() -> None:
    def unknown(*_: object) -> Sequence[str]:
        raise socket.gaierror("unknown")

    for resolve in (unknown, lambda *_: [], lambda host, _: [host.encode("idna").decode()]):
        with pytest.raises(InputError, match="public addresses alone"):
            asyncio.run(WebhookAddresses((), resolve).of(f"https://{'a' * 70}.example/"))
