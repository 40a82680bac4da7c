"""Deliveries to a real HTTPS receiver: signed, at least once, in order by subject, and nowhere else."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook

import postgres
from desks import run_review
from receivers import HOST, Receiver, receiving
from scoremux_client.transports.transport import Tls
from scoremux_desk.api.webhooks.addresses import WebhookAddresses
from scoremux_desk.api.webhooks.deliverer import LEASE_S, Deliverer
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import deliveries, webhooks
from scoremux_desk.reading import outbox
from scoremux_desk.reading.outbox import MOST_ATTEMPTS, pause_s
from waiting import side_by_side, until


class Hooks:
    """A database with webhooks of the token lms, and a receiver; clock: seconds that the database shows."""

    def __init__(self, name: str, receiver: Receiver, authority: Path, clock: list[float]) -> None:
        self.clock, self.receiver, self.tls, self.name = clock, receiver, Tls(authority).context(), name
        self.database = Database(name, clock=lambda: self.clock[0], create=True)

    def hook(self, path: str, host: str = HOST, token: str = "lms", key: str = "") -> tuple[str, str]:
        """Register a webhook; return its id and secret."""
        with self.database.write() as connection:
            url = path if "://" in path else self.receiver.url(path, host)
            webhook, secret = outbox.save_webhook(connection, token, url, ["row.final"], key)
        return webhook.id, secret

    def event(self, subject: str = "t r1", token: str = "lms", **data: Any) -> None:
        with self.database.write() as connection:
            outbox.add_event(connection, token, subject, "row.final", data)

    def found(self, **columns: Any) -> list[Any]:
        with self.database.read() as connection:
            chosen = (deliveries.c[name] == value for name, value in columns.items())
            return list(connection.execute(select(deliveries).where(*chosen).order_by(deliveries.c.number)))

    def deliver(
        self, holds: Callable[[], object], resolve: Any = None, allowed: str = HOST, most_s: float = 60, **options: Any
    ) -> None:
        """Deliver until something holds."""

        async def run() -> None:
            rule = WebhookAddresses([allowed], resolve or (lambda *_: ["127.0.0.1"]))
            deliverer = Deliverer(self.database, rule, self.tls, poll_s=0.02, **options)
            running = asyncio.create_task(deliverer.run())
            waiting = asyncio.create_task(asyncio.to_thread(until, holds, None, self.found, most_s))
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await waiting

        asyncio.run(run())

    def settled_all(self) -> bool:
        """Return whether the first event of each webhook has been tried."""
        return len({found.webhook for found in self.found() if found.answer}) == 9

    def settled(self, attempts: int = 1) -> Callable[[], bool]:
        """Return whether each delivery has had this many attempts."""
        return lambda: all(found.attempts >= attempts for found in self.found())


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hooks]:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # which nothing may use
    with receiving(tmp_path) as (receiver, authority):
        made = Hooks(str(tmp_path / "reviews.db"), receiver, authority, [1.8e9])
        yield made
        made.database.close()


def test_deliveries_are_signed_by_both_secrets_of_a_rotation(hooks: Hooks) -> None:
    # The receiver answers with 64 GiB, of which no more is read than needed.
    webhook, first = hooks.hook("/floods")
    same, second = hooks.hook("/floods")
    hooks.event(id="r1", level=2)
    hooks.deliver(lambda: hooks.found(state="delivered"))
    (path, headers, body), (delivery,) = hooks.receiver.came[0], hooks.found()
    assert (path, headers["host"], webhook) == ("/floods", f"{HOST}:{hooks.receiver.server_address[1]}", same)
    for secret in (first, second):
        event = Webhook(secret).verify(body, headers)
        assert (event["type"], event["data"]) == ("row.final", {"id": "r1", "level": 2})
    assert (headers["webhook-id"], delivery.answer) == (delivery.id, "status 200")
    hooks.hook("/floods")
    hooks.event()
    hooks.deliver(lambda: len(hooks.found(state="delivered")) == 2)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(first).verify(hooks.receiver.came[1][2], hooks.receiver.came[1][1])


@pytest.mark.parametrize(
    ("way", "answer"),
    [("redirects", "status 302; redirects are not followed"), ("closes", "no answer: RemoteProtocolError"),
     ("hangs", "no answer within 0.5 s"), ("fails", "status 500"), ("away", "All connection attempts failed")],
)  # fmt: skip
def test_failed_attempts_are_repeated_with_the_same_id(hooks: Hooks, way: str, answer: str) -> None:
    hooks.receiver.statuses["/fails"] = lambda _: 500
    hooks.hook(f"/{way}")
    hooks.event()
    nobody = {"resolve": lambda *_: ["127.0.0.2"]} if way == "away" else {}
    hooks.deliver(hooks.settled(), attempt_s=0.5 if way == "hangs" else 20, **nobody)
    (delivery,) = hooks.found(state="waiting")
    assert delivery.answer == answer and 4 <= delivery.due_at - hooks.clock[0] <= 6
    hooks.clock[0] = delivery.due_at + 0.1
    hooks.deliver(hooks.settled(2), attempt_s=0.5 if way == "hangs" else 20)
    assert hooks.receiver.ids(f"/{way}") == [delivery.id] * (1 if nobody else 2)
    assert hooks.receiver.ids("/ok") == []


def test_deliveries_go_on_after_an_error_that_nobody_expected(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    due, failures = outbox.due, [RuntimeError("once")]

    def fail_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return due(*args)

    def fail(*_: Any) -> Any:
        raise RuntimeError("in the resolver")

    hooks.hook("/ok")
    hooks.event()
    monkeypatch.setattr(outbox, "due", fail_once)
    hooks.deliver(hooks.settled(), resolve=fail)
    assert [found.answer for found in hooks.found(state="waiting", attempts=1)] == ["no answer: RuntimeError"]


def test_a_name_that_turns_to_loopback_gets_nothing(hooks: Hooks) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14", "127.0.0.1"]])
    rebinding = WebhookAddresses((), lambda *_: next(answers))
    assert asyncio.run(rebinding.of(hooks.receiver.url("/ok", "turns.example")))[1] == ["93.184.215.14"]
    hooks.hook("/ok", "turns.example")
    hooks.event()
    for attempt in (1, 2):
        hooks.deliver(hooks.settled(attempt), resolve=lambda *_: next(answers))
        hooks.clock[0] = hooks.found()[0].due_at + 0.1
        assert "does not resolve to public addresses alone" in hooks.found()[0].answer
    assert hooks.receiver.came == []


def test_the_certificate_is_for_the_host_of_the_url(hooks: Hooks) -> None:
    hooks.hook("/ok", "other.example")
    hooks.event()
    hooks.deliver(hooks.settled(), allowed="other.example")
    assert "certificate is not valid for 'other.example'" in hooks.found()[0].answer
    assert hooks.receiver.came == []


def test_a_slow_receiver_does_not_hold_up_others(hooks: Hooks) -> None:
    hooks.hook("/hangs")
    for n in range(30):
        hooks.event(f"t slow{n}")
    hooks.hook("/ok")
    for n in range(30):
        hooks.event(f"t fast{n}")
    hooks.deliver(lambda: len(hooks.found(state="delivered")) == 30, attempt_s=60)
    assert len(hooks.receiver.ids("/ok")) == 30
    assert len(hooks.receiver.ids("/hangs")) <= outbox.MOST_AT_ONCE
    assert hooks.found(state="delivered")[0].subject == "t fast0"


def test_all_deliveries_at_once_are_bounded_and_idle_webhooks_come_first(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_IN_ALL", 12)
    made = sorted(hooks.hook(path)[0] for path in ("/1/hangs", "/2/hangs", "/ok"))
    for n in range(20):
        hooks.event(f"t {n}")

    def due(*busy: int) -> list[str]:
        with hooks.database.read() as connection:
            found = outbox.due(connection, hooks.clock[0], dict(zip(made, busy, strict=True)))
        return [delivery.webhook for delivery in found]

    assert len(due(0, 0, 0)) == 12 and due(6, 6, 0) == []
    for busy in ([6, 5, 0], [0, 6, 5], [5, 0, 6]):
        assert due(*busy) == [made[busy.index(0)]]
    assert len(due(10, 0, 0)) == 2 and made[0] not in due(10, 0, 0)


def test_dead_deliveries_hold_their_subject_until_they_are_sent_again(hooks: Hooks) -> None:
    hooks.receiver.statuses["/ok"] = lambda _: 410
    hooks.hook("/ok")
    hooks.event(n=1)
    with hooks.database.write() as connection:
        connection.execute(deliveries.update().values(attempts=MOST_ATTEMPTS - 1))
    hooks.event(n=2)
    hooks.deliver(lambda: hooks.found(state="dead"))
    hooks.receiver.statuses.clear()
    hooks.clock[0] += 7
    hooks.event("t other")
    hooks.deliver(lambda: hooks.found(state="delivered"))
    dead, behind, other = hooks.found()
    assert (dead.state, behind.state, behind.attempts, other.state) == ("dead", "waiting", 0, "delivered")
    listed = run_review("webhooks", "--database", hooks.name)
    assert dead.id in listed and "status 410" in listed and behind.id not in listed
    again = run_review("deliveries", "--send-again", "--database", hooks.name)
    assert "1 deliveries are due again" in again and "ends with version 0.3: use scoremux review webhooks" in again
    hooks.clock[0] += 1e8  # the command has the real time
    hooks.deliver(lambda: len(hooks.found(state="delivered")) == 3)
    assert hooks.receiver.ids("/ok") == [dead.id, other.id, dead.id, behind.id]


def test_what_a_killed_process_was_sending_is_sent_when_its_lease_ends(hooks: Hooks) -> None:
    hooks.hook("/ok")
    hooks.event(n=1)
    hooks.event(n=2)
    with hooks.database.write() as connection:
        (leased,) = outbox.due(connection, hooks.clock[0], {}, hooks.clock[0] + LEASE_S)
    hooks.event("t other")
    hooks.deliver(lambda: hooks.found(state="delivered"))
    assert hooks.receiver.ids("/ok") == [hooks.found()[2].id]
    until, hooks.clock[0] = hooks.clock[0] + LEASE_S, hooks.clock[0] + LEASE_S
    with hooks.database.write() as connection:  # of three processes one was killed, and one was stopped and goes on
        outbox.due(connection, hooks.clock[0], {}, hooks.clock[0] + LEASE_S)
        outbox.end_lease(connection, leased, until, until, True, "late")
    rule = WebhookAddresses([HOST], lambda *_: ["127.0.0.1"])
    asyncio.run(Deliverer(hooks.database, rule, hooks.tls)._deliver(leased, until))
    assert (hooks.found()[0].state, len(hooks.receiver.came)) == ("waiting", 1)
    hooks.clock[0] += LEASE_S
    hooks.deliver(lambda: len(hooks.found(state="delivered")) == 3)
    assert hooks.receiver.ids("/ok")[1:] == [found.id for found in hooks.found()[:2]]


def test_a_token_that_is_not_in_force_gets_nothing_and_a_new_one_of_its_name_takes_over(hooks: Hooks) -> None:
    in_force = {"lms": "second", "other": "o"}
    _, first = hooks.hook("/lms", key="first")
    hooks.hook("/gone", key="first")
    hooks.hook("/other", token="other", key="o")
    hooks.event()
    hooks.event(token="other")
    hooks.deliver(lambda: hooks.found(state="delivered"), in_force=lambda: in_force)
    assert [path for path, _, _ in hooks.receiver.came] == ["/other"]
    assert [found.attempts for found in hooks.found(state="waiting")] == [0, 0]
    _, second = hooks.hook("/lms", key="second")
    hooks.deliver(lambda: len(hooks.found(state="delivered")) == 2, in_force=lambda: in_force)
    path, headers, body = hooks.receiver.came[1]
    assert path == "/lms" and Webhook(second).verify(body, headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(first).verify(body, headers)
    listed = run_review("webhooks", "--database", hooks.name)
    (line,) = [line for line in listed.splitlines() if "/gone" in line]
    assert line.endswith("of lms (first), 1 waiting")
    assert "/gone" not in run_review("webhooks", "--remove", line.partition(":")[0], "--database", hooks.name)
    assert not hooks.found(state="waiting")


def test_a_receiver_that_is_down_is_tried_once_after_each_pause(hooks: Hooks) -> None:
    hooks.hook("/down")
    hooks.receiver.statuses["/down"] = lambda _: 500
    for n in range(100):
        hooks.event(f"t {n}")

    def tried() -> int:
        return sum(found.attempts for found in hooks.found())

    def rests() -> bool:
        with hooks.database.read() as connection:
            (webhook,) = outbox.webhooks_of(connection)
        leased = [found for found in hooks.found(state="waiting") if found.due_at == hooks.clock[0] + LEASE_S]
        return webhook.due_at > hooks.clock[0] and not leased

    hooks.deliver(rests)
    assert outbox.FEW_FAILURES <= tried() <= (outbox.FEW_FAILURES + 1) * outbox.MOST_AT_ONCE
    for round_ in (1, 2, 3):
        before = tried()
        hooks.clock[0] += pause_s(round_) * 1.3
        hooks.deliver(lambda before=before: tried() > before and rests())  # type: ignore[misc]
        assert tried() == before + 1
    hooks.receiver.statuses.clear()
    hooks.clock[0] += 1e3
    hooks.deliver(lambda: len(hooks.found(state="delivered")) == 100)
    with hooks.database.write() as connection:
        connection.execute(webhooks.update().values(failures=MOST_ATTEMPTS - 1))
    hooks.receiver.statuses["/down"] = lambda _: 500
    hooks.event("t late")
    hooks.deliver(lambda: not hooks.found(state="waiting"))
    assert hooks.found()[-1].state == "dead"


def test_a_receiver_that_fails_now_and_then_is_not_down(hooks: Hooks) -> None:
    hooks.hook("/flaky")
    hooks.receiver.statuses["/flaky"] = lambda sent: 500 if int(sent[4:6], 16) < 26 else 200  # one in ten
    for n in range(200):
        hooks.event(f"t {n}")
    hooks.deliver(lambda: all(found.attempts for found in hooks.found()))
    assert len(hooks.found(state="delivered")) > 150


def test_an_event_of_a_wrong_clock_is_due_now(hooks: Hooks) -> None:
    hooks.hook("/ok")
    hooks.clock[0] += 40 * 86_400
    hooks.event()
    hooks.clock[0] -= 40 * 86_400
    hooks.deliver(lambda: hooks.found(state="delivered"))


def test_an_endless_answer_ends_early(hooks: Hooks) -> None:
    hooks.hook("/103")
    hooks.event()
    hooks.deliver(hooks.settled(), attempt_s=60)
    assert hooks.found()[0].answer == "no answer: RemoteProtocolError"


def test_what_was_not_looked_up_counts_for_no_attempt(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoremux_desk.api.webhooks.addresses._LOOKUP_S", 0.3)
    may_end = threading.Event()

    def resolve(host: str, _: int) -> Sequence[str]:
        if host.startswith("hangs"):
            may_end.wait(60)
        return ["127.0.0.1"]

    for n in range(8):
        hooks.hook(f"https://hangs{n}.example/", token="slow")
        hooks.event(token="slow")
    hooks.hook("/ok")
    hooks.event()
    hooks.deliver(lambda: hooks.found(state="delivered") and hooks.settled_all(), resolve=resolve)
    may_end.set()
    answers = Counter((found.attempts, found.answer.partition(": ")[2]) for found in hooks.found(state="waiting"))
    assert sum(answers.values()) == 36 and all(n == (said == "no answer") for n, said in answers if said)


def test_pauses_grow_and_end_within_days() -> None:
    pauses = [pause_s(attempt) for attempt in range(1, MOST_ATTEMPTS)]
    assert 4 <= pauses[0] <= 6 and max(pauses) <= 14_400 * 1.2
    assert all(later > earlier for earlier, later in pairwise(pauses[:8]))
    assert 86_400 < sum(pauses) < 4 * 86_400


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def test_several_processes_keep_the_order(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        receiver, authority = stack.enter_context(receiving(tmp_path))
        name, clock = stack.enter_context(postgres.database_name(kind, tmp_path)), [1.8e9]
        made = [Hooks(name, receiver, authority, clock) for _ in range(3)]
        hooks = made[0]
        for one in made:
            stack.callback(one.database.close)
        receiver.statuses["/late"] = lambda sent: 500 if receiver.ids("/late").count(sent) == 1 else 200
        hooks.hook("/ok")
        hooks.hook("/late")
        for n in range(60):
            hooks.event(f"t r{n % 7}", n=n)

        def all_delivered() -> bool:
            waiting = hooks.found(state="waiting")
            if all(found.due_at < clock[0] + LEASE_S / 2 for found in waiting):  # nothing is being sent
                clock[0] += 1.0
            return not waiting

        side_by_side(lambda one: one.deliver(all_delivered), made)
    for path in ("/ok", "/late"):
        came = [json.loads(body)["data"]["n"] for where, _, body in receiver.came if where == path]
        assert set(came) == set(range(60)) and len(set(receiver.ids(path))) == 60
        for row in range(7):
            assert [n for n in came if n % 7 == row] == sorted(n for n in came if n % 7 == row)


def test_what_is_being_sent_at_a_stop_is_soon_due_again(hooks: Hooks) -> None:
    hooks.hook("/hangs")
    hooks.event()
    hooks.deliver(lambda: hooks.receiver.came, attempt_s=60)
    (left,) = hooks.found(state="waiting")
    assert (left.attempts, left.answer) == (0, "the API was stopped") and left.due_at - hooks.clock[0] <= 6
