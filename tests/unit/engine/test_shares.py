"""Grants, shares of the work and bounds of the queue."""

import fnmatch
import gc
import hmac
import json
import math
import random
import re
import time
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schedules import Row, make_request
from scoremux_client import Status, contract
from scoremux_engine.backend.room import Room, read_terms
from scoremux_engine.engine import Engine
from scoremux_engine.errors import DroppedError, GrantError
from scoremux_engine.scoring.permission import (
    HEADER,
    MOST_BYTES,
    MOST_WEIGHT,
    WATCHER,
    Grant,
    Permissions,
    key_id,
    read_key,
)
from scoremux_engine.scoring.row_request import ANY_TERMS, RowRequest, Tenant, Terms
from scoremux_engine.scoring.shares import Part, Shares
from scoremux_server.triton.server import canary_headers

TOKENS_PER_S = 8000
BUDGET_ROWS, SHORT_ROWS = 32, 8
SLACK_TOKENS = 2 * BUDGET_ROWS * 64


@dataclass
class Machine:
    """Computes one part after the other on a clock of its own."""

    shares: Shares = field(default_factory=Shares)
    now: float = 0.0
    log: list[tuple[float, Part]] = field(default_factory=list)

    def send(self, tenant: Tenant, rows: int, bucket: int = 64, *, batch: bool = False) -> RowRequest:
        named: list[Row] = [(number, bucket, 8) for number in range(rows)]
        request = make_request(named, Terms(batch=batch, tenant=tenant), self.now)
        parts = [Part(request, request.plan.rows[first : first + BUDGET_ROWS]) for first in range(0, rows, BUDGET_ROWS)]
        self.shares.arrive(request, parts, self.now)
        return request

    def step(self) -> Part | None:
        lead = self.shares.lead(self.now)
        if lead is None:
            return None
        rows = SHORT_ROWS if self.shares.wants_short(lead, self.now) else BUDGET_ROWS
        part = self.shares.take(lead, rows, self.now)
        self.shares.begin(part)
        self.shares.end(part)
        self.now += part.tokens / TOKENS_PER_S
        self.log.append((self.now, part))
        return part

    def tokens(self) -> Counter[tuple[str, bool]]:
        counts: Counter[tuple[str, bool]] = Counter()
        for _, part in self.log:
            counts[part.request.terms.tenant.name, part.request.terms.batch] += part.tokens
        return counts


def test_work_is_divided_by_weight_however_much_and_in_whatever_sizes_each_sends() -> None:
    draw = random.Random(3)
    for _ in range(12):
        machine = Machine()
        tenants = [Tenant(f"t{number}", draw.choice((1, 1, 2, 5))) for number in range(draw.randint(2, 6))]
        sizes = {tenant: draw.choice((1, 8, 40, 512)) for tenant in tenants}
        buckets = {tenant: draw.choice((8, 16, 64)) for tenant in tenants}
        waiting: dict[Tenant, list[RowRequest]] = {tenant: [] for tenant in tenants}
        for _ in range(300):
            for tenant in tenants:  # each always has work; one floods
                while len(waiting[tenant]) < (40 if tenant is tenants[0] else 3):
                    waiting[tenant].append(machine.send(tenant, sizes[tenant], buckets[tenant]))
            part = machine.step()
            assert part
            part.request.rows_left -= len(part.rows)
            if not part.request.rows_left:
                waiting[part.request.terms.tenant].remove(part.request)
        computed, weights = machine.tokens(), sum(tenant.weight for tenant in tenants)
        for tenant in tenants:
            due = sum(computed.values()) * tenant.weight / weights
            assert abs(computed[tenant.name, False] - due) < SLACK_TOKENS, (tenants, computed)


def test_nothing_starves_and_every_row_is_computed_once_in_random_traffic() -> None:
    draw = random.Random(4)
    for _ in range(15):
        machine, sent, started = Machine(), 0, set[RowRequest]()
        tenants = [Tenant(f"t{number}", draw.randint(1, 4)) for number in range(draw.randint(1, 5))]
        for _ in range(draw.randint(1, 120)):
            request = machine.send(
                draw.choice(tenants), draw.choice((1, 2, 30, 200)), draw.choice((8, 64)), batch=draw.random() < 0.3
            )
            sent += request.tokens
            started.add(request)
            for _ in range(draw.randint(0, 3)):
                machine.step()
        while machine.step():
            pass
        assert sum(machine.tokens().values()) == sent and len(machine.shares) == machine.shares.tokens == 0
        places = Counter((part.request, row.place) for _, part in machine.log for row in part.rows)
        assert set(places.values()) == {1}
        assert {request for request, _ in places} == started


def test_batch_job_is_computed_slowly_beside_a_flood_and_at_full_speed_alone() -> None:
    machine, tenant = Machine(), Tenant()
    job = machine.send(tenant, 3200, batch=True)
    for _ in range(320):
        machine.send(tenant, BUDGET_ROWS)
        assert machine.step()
    part_of_job = machine.tokens()["", True] / sum(machine.tokens().values())
    assert 0.04 < part_of_job < 0.08  # 1 of 17
    while part := machine.step():
        last = part
    assert last.request is job


def test_small_request_of_somebody_who_sends_little_is_next_whatever_waits() -> None:
    draw, machine = random.Random(5), Machine()
    for number in range(12):
        machine.send(Tenant(f"t{number}"), 512)
    for _ in range(100):
        machine.send(draw.choice([Tenant("t1"), Tenant("t2")]), draw.choice((1, 512)), batch=draw.random() < 0.5)
        for _ in range(draw.randint(0, 9)):
            machine.step()
        lone = machine.send(Tenant("lone"), 1)
        first = [machine.step()]
        while (part := first[-1]) and part.request is not lone:
            first.append(machine.step())
        # Only other small parts that came before may be first, and one turn of a share that was overdue.
        assert part and sorted(len(part.rows) for part in first if part)[-2:] in ([1], [1, 1], [1, SHORT_ROWS])


def test_rows_of_the_least_weight_are_computed_within_seconds_beside_the_greatest() -> None:
    for flooders in (1, 3):
        machine, light, waits = Machine(), Tenant("light", 1), list[float]()
        for _ in range(12):
            for number in range(flooders):
                machine.send(Tenant(f"heavy{number}", MOST_WEIGHT), 512)
        for rows in (8, 1, 32, 8, 8):
            sent_at, request = machine.now, machine.send(light, rows)
            first = 0.0
            while request.rows_left:
                part = machine.step()
                assert part and len(machine.shares), "the others still wait"
                part.request.rows_left -= len(part.rows)
                first = first or (part.request is request and machine.now - sent_at)
            waits.append(first)
        assert max(waits) < 5 and machine.tokens()["light", False] / sum(machine.tokens().values()) < 0.1


def test_whoever_sends_small_requests_gets_short_micro_batches_beside_it_however_seldom() -> None:
    def short(machine: Machine) -> bool:
        lead = machine.shares.lead(machine.now)
        return lead is not None and machine.shares.wants_short(lead, machine.now)

    machine, lone, large = Machine(), Tenant("lone"), Tenant("large")
    machine.send(lone, 1, bucket=512)  # a long row is a small request too
    assert not short(machine)  # nobody else is there
    machine.step()
    machine.send(large, 512)
    machine.send(large, 512, batch=True)
    machine.now += 3  # slow rows come one by one
    assert short(machine)
    machine.now += 10
    machine.step()  # the share was overdue
    assert not short(machine)
    canary = Machine()
    canary.send(large, 512)
    for _ in range(40):
        canary.now += 0.25
        canary.send(Tenant(WATCHER), 1)
        canary.send(large, 1, batch=True)
        canary.step()
    assert not short(canary)


def test_computed_requests_and_idle_tenants_are_let_go_but_not_a_tenant_that_had_more_than_its_share() -> None:
    machine = Machine()
    requests = [weakref.ref(machine.send(Tenant(f"t{n}"), 1)) for n in range(50) for _ in range(3)]
    stays = machine.send(Tenant("t0"), 512)
    while machine.shares.tokens > stays.tokens / 2:
        machine.step()
    machine.log.clear()
    gc.collect()
    assert not any(request() for request in requests)
    machine.now += 10
    machine.send(Tenant("new"), 1)
    assert {name for name, _ in machine.shares._shares} == {"t0", "new"}
    ahead = Machine()
    ahead.send(Tenant("ahead"), BUDGET_ROWS)
    ahead.send(Tenant("other"), 512)
    assert ahead.step() and ahead.step() and ahead.shares.computed["ahead"]
    ahead.now += 10
    ahead.send(Tenant("new"), 1)
    assert ("ahead", False) in ahead.shares._shares


def test_canary_is_next_beside_the_heaviest_token() -> None:
    grant = Grant.verified(b"k" * 32, canary_headers(b"k" * 32)[HEADER])
    machine, heavy = Machine(), Tenant("heavy", MOST_WEIGHT)
    for _ in range(8):
        machine.send(heavy, 512)
        assert machine.step()
    canary = machine.send(Tenant(grant.name, grant.weight), 1)
    part = machine.step()
    assert part and part.request is canary
    assert canary_headers(None) == {HEADER: WATCHER}  # a share of its own without a front door too


@dataclass
class Held:
    """A request as Room sees it."""

    texts: list[bytes]
    terms: Terms
    size_bytes: int = 0


def held(rows: int, name: str = "", size_bytes: int = 0) -> Held:
    return Held([b""] * rows, Terms(tenant=Tenant(name)), size_bytes)


def refusal(room: Room, request: Held) -> tuple[str, str]:
    with pytest.raises(DroppedError) as error:
        room.enter(request)
    return error.value.reason, str(error.value)


@pytest.mark.parametrize("unit", ["rows", "bytes"])
def test_token_gets_as_much_room_as_it_leaves_and_a_new_one_always_finds_some(unit: str) -> None:
    def request(amount: int, name: str) -> Held:
        return held(amount, name) if unit == "rows" else held(1, name, amount)

    room = Room(*((1000, 10**9) if unit == "rows" else (10**6, 1000)))
    for _ in range(5):
        room.enter(request(100, "greedy"))
    assert refusal(room, request(100, "greedy"))[0] == "token_full"
    for _ in range(3):
        room.enter(request(100, "second"))
    assert refusal(room, request(100, "second"))[0] == "token_full"
    room.enter(request(100, "third"))
    assert refusal(room, request(300, "fourth"))[0] == "full"
    room.leave(request(100, "greedy"))
    room.enter(request(100, "third"))


def test_room_counts_rows_from_acceptance_to_the_answer_by_class_and_an_empty_one_takes_any_request() -> None:
    room, job = Room(100, 1000), Held([b""] * 7, Terms(batch=True), 0)
    for request in (held(5), job):
        room.enter(request)
    assert room.rows == (5, 7)
    room.leave(held(5))
    room.leave(job)
    assert room.rows == (0, 0)
    room.enter(held(500))
    assert refusal(room, held(1))[0] == "full"
    room.leave(held(500))
    for _ in range(10):
        room.enter(held(10))
    assert refusal(room, held(1)) == ("full", "100 rows wait already: send again in 1.0 s")


def test_full_queue_takes_small_requests_and_the_canary_and_names_when_there_is_room() -> None:
    room = Room(2048, 10**9)
    for number in range(7):
        room.enter(held(290, f"t{number}"))
    assert refusal(room, held(3, "large"))[0] == refusal(room, held(1, "long", 10**9))[0] == "full"
    for number in range(18):
        room.enter(held(1, f"lone{number}"))
    assert refusal(room, held(1, "last"))[0] == "full"
    for _ in range(2):
        room.enter(held(64, WATCHER))
    now = [0.0]
    room = Room(1000, 10**9, lambda: now[0])
    assert room.enter(held(1000)) is None  # type: ignore[func-returns-value]
    assert refusal(room, held(100))[1].endswith("send again in 1.0 s")  # nothing has left yet
    now[0] = 10.0
    room.leave(held(200))
    room.enter(held(190))
    assert refusal(room, held(100))[1].endswith("send again in 5.0 s")
    assert refusal(room, held(900, "t"))[1].endswith("send again in 30.0 s")


@pytest.mark.parametrize("value", ['"soon"', '"nan"', "NaN", "null", "[]", "{}", "1" + "0" * 400, "9" * 5000])
def test_terms_that_cannot_be_understood_count_for_nothing(value: str) -> None:
    for text in (f'{{"deadline_ms": {value}}}', "[" * 10_000 + '"deadline_ms"', '["batch"]', '{"batch"'):
        assert read_terms(text) == ANY_TERMS
    assert not read_terms(f'{{"batch": {value}}}').batch


@pytest.mark.parametrize("value", ["1e999", '"inf"', str(2**63), "-1e999", '"-5"', "0", "true", '"１"'])
def test_odd_deadlines_are_times(value: str) -> None:
    assert read_terms(f'{{"deadline_ms": {value}}}').deadline < math.inf


KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_800_000_000
GRANT = Grant("grader", NOW + 60, ("en-*", "de-1"), 4)


def parameters(*pairs: tuple[str, object]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs) + "}"


@pytest.fixture
def permissions() -> Permissions:
    return Permissions(KEY, lambda: NOW)


@pytest.mark.parametrize("name", [HEADER, "Scoremux-Grant", "SCOREMUX-GRANT"])
def test_a_signed_grant_is_found_however_its_header_is_spelt(permissions: Permissions, name: str) -> None:
    signed = GRANT.signed(KEY)
    assert permissions.of(parameters((name, signed), ("x", 1))) == GRANT
    assert signed.isprintable() and " " not in signed and len(signed) < 120


@pytest.mark.parametrize("second", [HEADER, "Scoremux-Grant"])
def test_a_request_with_two_grants_is_refused(permissions: Permissions, second: str) -> None:
    signed = GRANT.signed(KEY)
    for pair in ((second, signed), (second, ""), (second, 1)):
        for pairs in (((HEADER, signed), pair), (pair, (HEADER, signed))):
            with pytest.raises(GrantError, match="more than one grant"):
                permissions.of(parameters(*pairs))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *(
            (text, "has no grant")
            for text in ("", "{}", '{"x": 1}', '{"scoremux-grants": "1"}', '{"x-scoremux-grant": 1}')
        ),
        *((parameters((HEADER, value)), "not a string") for value in (None, 1, True, ["x"], {"x": "y"})),
        *((text, "cannot be read") for text in ("{", "[1]", "1", "null", '"x"', "[" * 100_000)),
    ],
    ids=lambda value: value[:30],
)
def test_a_request_without_a_readable_grant_is_refused(permissions: Permissions, text: str, sentence: str) -> None:
    with pytest.raises(GrantError, match=sentence):
        permissions.of(text)


def test_every_changed_character_breaks_a_grant(permissions: Permissions) -> None:
    signed = GRANT.signed(KEY)
    draw = random.Random(5)
    changed = {signed[:place] + letter + signed[place + 1 :] for place in range(len(signed)) for letter in "0*:,aé\0"}
    changed |= {signed[:place] + signed[place + 1 :] for place in range(len(signed))}
    changed |= {signed[:place] + draw.choice("a0:,*") + signed[place:] for place in range(len(signed) + 1)}
    changed |= {signed.upper(), signed + "\n", " " + signed, "", ":", "\ud800", "x" * 10_000, GRANT.signed(OTHER)}
    for text in changed - {signed}:
        with pytest.raises(GrantError, match="not signed"):
            permissions.of(parameters((HEADER, text)))


OLDER = "run the same version of front door and server"
ODD_NUMBERS = ("-1", "+1", "", "NaN", "1e3", "1_0", "0x1", " 1", "1.0", "9" * 13, "１", "1\n")


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        (f"1:grader:{NOW + 60}:*", f"format 1, not 3: {OLDER}"),
        (f"2:grader:{NOW + 60}:1:0:*", f"format 2, not 3: {OLDER}"),
        *((f"3:grader:{number}:1:*", "") for number in ODD_NUMBERS),
        *((f"3:grader:{NOW + 60}:{number}:*", "") for number in ODD_NUMBERS),
    ],
)
def test_signed_grant_with_an_odd_part_is_refused(permissions: Permissions, claims: str, sentence: str) -> None:
    with pytest.raises(GrantError) as refused:
        permissions.of(parameters((HEADER, f"{claims}:{hmac.digest(KEY, claims.encode(), 'sha256').hex()}")))
    assert sentence in str(refused.value)


def test_a_grant_ends_when_it_says_though_it_is_remembered() -> None:
    now = [float(NOW)]
    permissions = Permissions(KEY, lambda: now[0])
    text = parameters((HEADER, GRANT.signed(KEY)))
    permissions.of(text)
    now[0] = NOW + 59.9
    permissions.of(text)
    now[0] = NOW + 60
    with pytest.raises(GrantError, match="expired"):
        permissions.of(text)


@pytest.mark.parametrize(
    "grant",
    [
        Grant("a b", NOW, ("*",)),
        Grant("a:b", NOW, ("*",)),
        Grant("", NOW, ("*",)),
        Grant("a", -1, ("*",)),
        Grant("a", NOW, ("*",), 0),
        Grant("a", NOW, ("*",), 101),
        Grant("a", NOW, ()),
        Grant("a", NOW, ("a,b",)),
        Grant("a", NOW, ("a[1]",)),
        Grant("a", NOW, ("é",)),
        Grant("a", NOW, ("a" * 129,)),
        Grant("a", NOW, ("a" * 128,) * 40),
    ],
)
def test_a_grant_that_could_be_read_otherwise_is_never_signed(grant: Grant) -> None:
    with pytest.raises(GrantError, match=f"malformed, or longer than {MOST_BYTES}"):
        grant.signed(KEY)


def test_patterns_are_those_of_a_shell_and_none_takes_long() -> None:
    draw = random.Random(3)
    for _ in range(2000):
        patterns = ["".join(draw.choices("ab*?.-", k=draw.randint(1, 6))) for _ in range(draw.randint(1, 3))]
        task = "".join(draw.choices("ab.-", k=draw.randint(1, 7)))
        expected = any(fnmatch.fnmatchcase(task, pattern) for pattern in patterns)
        assert Grant("a", NOW, tuple(patterns)).allows(task) == expected, (patterns, task)
    grant = Grant("a", NOW, tuple("*a" * 60 + f"*b{number}" for number in range(25)))
    grant.allows("a")  # compiles the patterns
    started = time.process_time()
    assert not any(grant.allows("a" * 128) for _ in range(512))
    assert time.process_time() - started < 2


def test_a_key_is_read_once_and_named_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\n" + KEY + b"\n")
    assert read_key(tmp_path / "key") == KEY
    assert key_id(KEY) == key_id(KEY) != key_id(OTHER) and re.fullmatch("[0-9a-f]{16}", key_id(KEY))
    (tmp_path / "short").write_bytes(b"k" * 31)
    for name, sentence in (("short", "has 31 bytes; it takes 32 at least"), ("none", "cannot be read: No such file")):
        with pytest.raises(GrantError, match=sentence):
            read_key(tmp_path / name)


def test_rows_of_forbidden_tasks_are_told_apart_and_the_others_are_scored(small_repository: Path) -> None:
    engine = Engine.open(small_repository)
    tasks = ["t-1", "t-2", "t-9", "no task", "t-2@" + "0" * 64, "t-1@" + "0" * 64, b"t-2", b"\xff"]
    texts = ["a router"] * len(tasks)
    columns = engine.score_columns(texts, tasks, Grant("one", NOW, ("t-1",)).allows)
    assert [status.decode() for status in columns[contract.STATUS.name][:, 0]] == [
        Status.OK,
        Status.FORBIDDEN_TASK,
        Status.FORBIDDEN_TASK,  # whether there is such a task is not told
        Status.INVALID_TASK,
        Status.FORBIDDEN_TASK,
        Status.UNKNOWN_TASK,
        Status.FORBIDDEN_TASK,
        Status.INVALID_TASK,
    ]
    alone = engine.score_columns(["a router"], ["t-1"])
    assert (columns["PROBABILITIES"][0] == alone["PROBABILITIES"][0])[:5].all()
    assert columns["LEVEL"][1, 0] == -1 and columns["VERSION"][1, 0] == b""
