"""Webhooks: whose they are, and where they may point: public addresses by https, and hosts that the operator lists."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from apis import KEY, api, grant
from scoremux_client.errors import InputError
from scoremux_desk.api.webhooks.addresses import MOST_OF_CALLER, NotLookedUpError, WebhookAddresses, is_public
from scoremux_desk.api.webhooks.deliverer import Deliverer
from scoremux_desk.api.webhooks.webhook_endpoints import MOST_WEBHOOKS
from scoremux_desk.database.schema import deliveries
from scoremux_desk.reading import outbox
from scoremux_server.front_door.access_tokens import AccessTokenFile
from serving import run_here
from waiting import until

URL = "https://localhost/hooks"
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


def test_http_is_for_listed_hosts_and_ports_of_this_machine() -> None:
    assert addresses("http://localhost:9000/", "127.0.0.1", allowed=["localhost"]) == ["127.0.0.1"]
    for found, allowed in (("93.184.215.14", []), ("10.0.0.1", ["lms.example"]), ("93.184.215.14", ["lms.example"])):
        with pytest.raises(InputError, match="takes https"):
            addresses("http://lms.example/", found, allowed=allowed)
    for allowed, url in (("127.0.0.1:8443", "https://127.0.0.1:8443/"), ("[::1]:80", "http://[::1]/")):
        assert addresses(url, httpx.URL(url).host, allowed=[allowed])
        with pytest.raises(InputError, match="--allow-webhook"):
            addresses(url.replace("8443", "8444").replace("]/", "]:81/"), httpx.URL(url).host, allowed=[allowed])


@pytest.mark.parametrize(
    "url", ["", "lms.example", "https://", "https:///x", "ftp://a.example/", "file:///etc/passwd", "https://u:p@a.example/",
            "https://a.example/#x", "https://a.example:99999/", "https://a\x00b/", "https://[::1/", "//a.example/",
            "https://xn--/"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="URL of"):
        addresses(url, "93.184.215.14")


def test_names_that_hang_hold_up_no_name_of_another_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, asked = threading.Event(), list[str]()

    def resolve(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        if host.startswith("hangs"):
            may_end.wait(60)
        return ["1.1.1.1"]

    async def look_up() -> None:
        rule = WebhookAddresses((), resolve)
        try:
            with monkeypatch.context() as patched:
                patched.setattr("scoremux_desk.api.webhooks.addresses._LOOKUP_S", 0.1)
                for _ in range(2):
                    names = [f"https://hangs{n % 40}.example/" for n in range(200)]
                    ended = await asyncio.gather(*(rule.of(name, "slow") for name in names), return_exceptions=True)
                    assert {type(error) for error in ended} == {NotLookedUpError}
                    began = {str(error).partition(" ")[0] for error in ended if getattr(error, "began", False)}
                    assert len(began) == MOST_OF_CALLER == len(asked)  # one lookup of each
            assert (await rule.of("https://lms.example/", "lms"))[1] == ["1.1.1.1"]
        finally:
            may_end.set()
        until(lambda: not rule._running and not rule._used)
        assert (await rule.of("https://hangs9.example/", "slow"))[1] == ["1.1.1.1"]

    asyncio.run(look_up())


def test_receivers_have_another_loop_than_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops = list[object]()

    async def loop(*_: object) -> object:
        loops.append(asyncio.get_running_loop())
        return loops[-1]

    monkeypatch.setattr(Deliverer, "run", loop)
    with api(tmp_path) as (client, _):
        until(lambda: loops)
        assert client.portal and client.portal.call(loop) is not loops[0]


def test_names_that_cannot_be_resolved_are_refused() -> None:
    def unknown(*_: object) -> Sequence[str]:
        raise socket.gaierror("unknown")

    for resolve in (unknown, lambda *_: [], lambda host, _: [host.encode("idna").decode()]):
        with pytest.raises(InputError, match="public addresses alone"):
            asyncio.run(WebhookAddresses((), resolve).of(f"https://{'a' * 70}.example/"))


def test_webhooks_belong_to_their_token(tmp_path: Path) -> None:
    lms, other = grant("lms"), grant("other")
    with api(tmp_path, key=KEY, allowed_hosts=frozenset({"localhost"})) as (client, services):
        made = client.post("/v1/webhooks", json={"url": URL}, headers=lms)
        assert made.status_code == 201
        webhook, secret = made.json()["id"], made.json()["secret"]
        again = client.post("/v1/webhooks", json={"url": URL, "events": ["row.final"]}, headers=lms).json()
        assert (again["id"], again["events"]) == (webhook, ["row.final"]) and again["secret"] != secret
        listed = client.get("/v1/webhooks", headers=lms)
        assert listed.json() == {"webhooks": [{**again, "secret": None}]}
        assert client.get("/v1/webhooks", headers=other).json() == {"webhooks": []}
        with services.database.write() as connection:
            outbox.add_event(connection, "lms", "t r1", "row.final", {"id": "r1"})
            outbox.add_event(connection, "lms", "t r1", "row.corrected", {"id": "r1"})
            outbox.add_event(connection, "other", "t r1", "row.final", {"id": "r1"})
            connection.execute(update(deliveries).values(state="dead"))
        place = f"/v1/webhooks/{webhook}"
        (delivery,) = client.get(f"{place}/deliveries?state=dead", headers=lms).json()["deliveries"]
        assert (delivery["type"], delivery["data"], delivery["id"][:4]) == ("row.final", {"id": "r1"}, "msg_")
        for method, path in (("GET", f"{place}/deliveries"), ("DELETE", place)):
            refused = client.request(method, path, headers=other)
            assert (refused.status_code, refused.json()["title"]) == (404, "Not found")
        assert client.get(f"{place}/deliveries?state=waiting", headers=lms).json() == {"deliveries": []}
        assert client.delete(place, headers=lms).status_code == 204
        assert client.get(f"{place}/deliveries", headers=lms).status_code == 404


@pytest.mark.parametrize(
    ("body", "detail"),
    [({"url": "https://localhost/"}, "public addresses alone"), ({"url": "http://u:p@x.example/"}, "neither a user"),
     ({"url": "https://169.254.169.254/latest"}, "--allow-webhook 169.254.169.254"), ({}, "url: Field required"),
     ({"url": "https://x.example/", "events": []}, "events"), ({"url": "x", "events": ["row.made"]}, "events"),
     ({"url": "https://x.example/", "secret": "mine"}, "url, events")],
)  # fmt: skip
def test_refused_webhooks_are_not_kept(tmp_path: Path, body: dict[str, Any], detail: str) -> None:
    with api(tmp_path) as (client, _):
        refused = client.post("/v1/webhooks", json=body)
        assert refused.status_code == 422 and detail in refused.json()["detail"]
        assert client.get("/v1/webhooks").json() == {"webhooks": []}


def test_a_name_that_cannot_be_looked_up_now_is_to_be_sent_again(tmp_path: Path) -> None:
    def later(*_: object) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    with api(tmp_path) as (client, services):
        services.addresses = WebhookAddresses((), later)
        answer = client.post("/v1/webhooks", json={"url": "https://x.example/"})
        assert (answer.status_code, answer.json()["retryable"], answer.headers["retry-after"]) == (503, True, "5")
        assert "x.example cannot be looked up now" in answer.json()["detail"]


def test_webhooks_of_a_revoked_token_are_not_those_of_a_new_one_of_its_name(tmp_path: Path) -> None:
    lms, tokens = grant("lms"), AccessTokenFile(tmp_path / "tokens.json")
    tokens.add("lms", ["*"], 0, 9)
    allowed = frozenset({"localhost"})
    with api(tmp_path, key=KEY, tokens=tokens.path, allowed_hosts=allowed) as (client, services):
        made = client.post("/v1/webhooks", json={"url": URL}, headers=lms).json()
        tokens.revoke("lms")
        services.callers._read_at = 0.0
        assert client.post("/v1/webhooks", json={"url": URL}, headers=lms).status_code == 401
        assert client.get("/v1/webhooks", headers=lms).status_code == 401
        tokens.add("lms", ["*"], 0, 9)
        services.callers._read_at = 0.0
        assert client.get("/v1/webhooks", headers=lms).json() == {"webhooks": []}
        assert client.get(f"/v1/webhooks/{made['id']}/deliveries", headers=lms).status_code == 404
        tokens.path.unlink()  # which revokes nobody
        assert client.get("/v1/webhooks", headers=lms).json() == {"webhooks": []}
        with services.database.write() as connection:
            outbox.add_event(connection, "lms", "t r1", "row.final", {"id": "r1"})
    tokens.add("lms", ["*"], 0, 9)
    said = run_here("tokens", "revoke", "lms", "--tokens", tokens.path, "--database", tmp_path / "reviews.db").stderr
    assert "1 webhooks stop; 1 deliveries wait" in said


def test_a_token_has_so_many_webhooks_at_most(tmp_path: Path) -> None:
    with api(tmp_path, allowed_hosts=frozenset({"localhost"})) as (client, _):
        for n in range(MOST_WEBHOOKS):
            assert client.post("/v1/webhooks", json={"url": f"{URL}{n}"}).status_code == 201
        assert client.post("/v1/webhooks", json={"url": URL}).json()["title"] == "Too many webhooks"
        assert client.post("/v1/webhooks", json={"url": f"{URL}0"}).status_code == 201
