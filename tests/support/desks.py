"""A review desk on a small made-up programme: scored responses with routes, task texts, anchors, validity papers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import httpx
from argon2 import PasswordHasher
from sqlalchemy import func, select, text
from starlette.applications import Starlette
from typer.testing import CliRunner

from scoremux_desk.commands import review
from scoremux_desk.database import responses
from scoremux_desk.database.accounts import add_person, begin_session
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import Item, replace_anchors, save_items, save_policy
from scoremux_desk.database.reads import group_members
from scoremux_desk.database.schema import decisions, reads
from scoremux_desk.database.schema import queues as queue_counts
from scoremux_desk.database.verification import verify
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.pages.desk_app import Desk, create_app
from scoremux_desk.reading import assignments, conversations, human_decisions, leases, settling
from scoremux_desk.reading.intake import add_papers, add_scored
from scoremux_desk.reading.task_access import TaskAccess
from scoremux_desk.reading.task_files import read_anchors

PASSWORD = "a long password"
FAST_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

ITEMS = (
    Item(
        "bio-7",
        (0, 1, 2),
        "Why do leaves look green? Explain with what happens to light.",
        "Chlorophyll absorbs red and blue light and reflects green light, which reaches our eyes.",
        "2 points: absorption of red and blue, and reflection of green.\n1 point: one of the two.\n"
        "0 points: neither, or “leaves are green because they contain green colour”.",
        "en",
    ),
    Item(
        "geo-2", (0, 0.5, 1), "لماذا تهطل الأمطار على الجبال أكثر من السهول؟", "لأن الهواء يبرد عندما يصعد.", "", "ar"
    ),
    Item("phy-3", (0, 0.25, 0.5, 0.75, 1), "Warum schwimmt Eis auf Wasser?", "Eis hat eine kleinere Dichte.", "", "de"),
)
_LEAVES = (
    "Chlorophyll takes in the red and the blue light, and the green light is reflected so we see green.",
    "Because of chlorophyll which absorbs light.",
    "Leaves are green because they have green colour inside them.",
    "The leaf reflects green light.\n\nIt absorbs   the other colours for photosynthesis.",
    "Plants need sun to live and the sun makes them green in summer, in autumn there is less sun.",
    "chlorophyl absorb red and blue so only green come out to our eye",
    "Green light has the most energy so plants keep it.",
    "It bounces green back.",
    "I think it is because of the pigments. They eat up some colours in sunlight (red, blue) and throw green back.",
    "Photosynthesis.",
)
_RAIN = (
    "الهواء يصعد فوق الجبل ويبرد فتتكون الغيوم.",
    "لأن الجبال عالية.",
    "الهواء الرطب يرتفع ثم يبرد ويتكاثف فيسقط المطر.",
)
_ICE = (
    "Weil Eis leichter ist als Wasser.",
    "Eis hat eine geringere Dichte als flüssiges Wasser, weil die Moleküle ein weites Gitter bilden.",
    "Weil Luft im Eis ist",
    "Die Dichte von Eis ist kleiner.",
)


@dataclass
class Programme:
    """A desk with its people: one director (dana), one leader (lee), raters. now: seconds that its clock shows."""

    folder: Path
    database: Database
    app: Starlette
    people: dict[str, int]
    clock: list[float] = field(default_factory=lambda: [1.8e9])

    def client(self, name: str = "") -> Browser:
        """Return a browser, signed in if a name is given."""
        browser = Browser(self.app, clock=self.clock)
        if name:
            browser.cookies.set("desk", begin_session(self.database, self.people[name]))
            browser.get("/")
        return browser

    def reading(self, name: str, task: str = "bio-7") -> Browser:
        """Return a browser with a response of a task before someone."""
        browser = self.client(name)
        browser.post("/start", {"task": task})
        return browser

    def select(self, query: Any) -> list[Any]:
        """Return the rows of a query, single values where it has one column."""
        with self.database.read() as connection:
            found = connection.execute(query).all()
        return [row[0] if len(row) == 1 else row for row in found]


class Browser:
    """A browser without scripts: forms come from the page that was last shown. A form takes three seconds."""

    def __init__(self, app: Starlette, origin: str = "http://localhost", clock: list[float] | None = None) -> None:
        self._clock = clock or [0.0]
        self._http = httpx.Client(
            transport=_Sync(app), base_url=origin, follow_redirects=True, headers={"Origin": origin}
        )
        self.cookies = self._http.cookies
        self.page = ""

    def get(self, path: str, **options: Any) -> httpx.Response:
        answer = self._http.get(path, **options)
        self.page = answer.text
        return answer

    def post(self, path: str, fields: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send a form with the form key of the last page, and a response's token if one is there."""
        self._clock[0] += 3
        known = {name: self.field(name) for name in ("form_key", "token", "key") if self.field(name)}
        answer = self._http.post(path, data={**known, **(fields or {})}, **options)
        self.page = answer.text
        return answer

    def field(self, name: str) -> str:
        """Return the value of a hidden field of the last page."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.page)
        return found[1] if found else ""


class _Sync(httpx.BaseTransport):
    """Runs an ASGI application for a synchronous client."""

    def __init__(self, app: Starlette) -> None:
        from anyio.from_thread import start_blocking_portal

        self._inner = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        self._portal = start_blocking_portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            found = await self._inner.handle_async_request(request)
            content = await found.aread()
            return httpx.Response(found.status_code, headers=found.headers, content=content, request=request)

        with self._portal() as portal:
            return portal.call(answer)


def scored_rows(number: int, routed: bool = True) -> list[dict[str, Any]]:
    """Return rows as `scoremux score` writes them, with their texts."""
    rows = []
    for n in range(number):
        task, texts = (("bio-7", _LEAVES), ("phy-3", _ICE), ("bio-7", _LEAVES), ("geo-2", _RAIN))[n % 4]
        levels = {"bio-7": 3, "phy-3": 5, "geo-2": 3}[task]
        level, sure = n * 7 % levels, 0.35 + (n * 37 % 60) / 100
        rest = (1 - sure) / (levels - 1)
        row: dict[str, Any] = {
            "id": f"r{n}", "task": task, "status": "OK", "level": level, "score": level / 2,
            "probabilities": [sure if k == level else rest for k in range(levels)], "version": "ab" * 32,
            "tokens": 9, "truncated": False, "source": "responses.jsonl", "line": n + 1,
            "text": texts[n // 4 % len(texts)] + ("" if n < 40 else f" {n}"),
        }  # fmt: skip
        if routed:
            row |= {"confidence": sure, "condition": "", "route": "human:LOW_CONFIDENCE" if sure < 0.8 else "machine"}
            row["read_behind"] = 0.25 if row["route"] == "machine" and n % 5 == 0 else None
        rows.append(row)
    return rows


def make_programme(
    folder: Path,
    number: int = 40,
    policy: DeskPolicy | None = None,
    rows: list[dict[str, Any]] | None = None,
    name: str = "",
    raters: tuple[str, ...] = ("anna", "ben"),
    keep: list[str] | None = None,
) -> Programme:
    """Return a desk with `number` responses; name: another database than a new SQLite file; keep: columns."""
    clock = [1.8e9]
    database = Database(name or str(folder / "reviews.db"), clock=lambda: clock[0], create=True)
    with database.write() as connection:
        save_policy(connection, policy or DeskPolicy(), "test")
        save_items(connection, ITEMS, "test")
    write_jsonl(folder / "scored.jsonl", scored_rows(number) if rows is None else rows)
    add_scored(database, folder / "scored.jsonl", columns=[f"keep={name}" for name in keep or ()])
    anchors = [
        {"task": "bio-7", "level": 2, "text": "It absorbs red and blue and reflects green.", "note": "Both halves."},
        {"task": "bio-7", "level": 1, "text": "It absorbs light with chlorophyll.", "note": "Reflection is missing."},
        {"task": "bio-7", "level": 0, "text": "Leaves are just green."},
    ]
    write_jsonl(folder / "anchors.jsonl", anchors)
    with database.write() as connection:
        replace_anchors(connection, read_anchors(folder / "anchors.jsonl"), "test")
    write_jsonl(folder / "validity.jsonl", [{"task": "bio-7", "level": 1, "text": "Chlorophyll catches light."}])
    add_papers(database, folder / "validity.jsonl", "validity")
    roles = {"dana": "director", "lee": "leader", **dict.fromkeys(raters, "rater")}
    people = {who: add_person(database, who, role, PASSWORD, "test", FAST_HASHER) for who, role in roles.items()}
    app = create_app(Desk(database, hasher=FAST_HASHER, draw=Random(1).random, answer_s=0.0))
    return Programme(folder, database, app, people, clock)


def essays(number: int, sure: float = 0.5, texts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return rows of essays with three traits, as `scoremux score` writes them; sure: of the last trait."""
    some = [(n, trait) for n in range(number) for trait in ("cohesion", "grammar", "syntax")]
    texts = texts or [f"Essay {n}" for n in range(number)]
    scored = {"route": "human:LOW_CONFIDENCE", "read_behind": None, "level": 1, "probabilities": [0.5, 0.5]}
    return [
        {**scored_rows(n + 1)[n], "task": f"essay-1.{trait}", "trait": trait, "text": texts[n], **scored}
        | {"confidence": sure if trait == "syntax" else 0.4}
        for n, trait in some
    ]


class Work:
    """What people do at a desk, a transaction each."""

    def __init__(self, programme: Programme, policy: DeskPolicy) -> None:
        self.programme, self.policy, self.database = programme, policy, programme.database

    @classmethod
    def open(cls, path: Path, **roles: str) -> Work:
        """Open the desk that a command made, for a policy without groups; roles: of its people, by name."""
        desk, policy = Database(str(path)), DeskPolicy(groups=False, guard_s=0)
        people = {who: add_person(desk, who, role, PASSWORD, "test", FAST_HASHER) for who, role in roles.items()}
        work = cls(Programme(path.parent, desk, create_app(Desk(desk, answer_s=0.0)), people), policy)
        work.keep_policy()
        return work

    def keep_policy(self) -> None:
        with self.database.write() as connection:
            save_policy(connection, self.policy, "test")

    def reader(self, name: str) -> Any:
        role = "leader" if name in ("lee", "dana") else "rater"
        return SimpleNamespace(id=self.programme.people[name], name=name, role=role)

    def act(self, act: Callable[..., Any], name: str, *arguments: Any) -> Any:
        """Call what a person does at the desk, in a transaction."""
        with self.database.write() as connection:
            return act(TaskAccess(connection, self.reader(name)), *arguments)

    def take(self, name: str, task: str = "", reason: str = "", draw: float = 1.0) -> Any:
        return self.act(leases.take, name, task, reason, lambda: draw)

    def decide(
        self, name: str, token: str, level: int | None = 1, wait_s: float = 3, **judgement: Any
    ) -> tuple[int, ...]:
        self.wait(wait_s)

        def act(access: TaskAccess) -> tuple[int, ...]:
            last = access.connection.scalar(select(func.max(decisions.c.id))) or 0
            human_decisions.decide(access, human_decisions.Rating(token, level, **judgement))
            return tuple(access.connection.scalars(select(decisions.c.id).where(decisions.c.id > last)))

        decided: tuple[int, ...] = self.act(act, name)
        return decided

    def undo(self, name: str) -> int:
        undone: int = self.act(human_decisions.undo, name)
        return undone

    def put_aside(self, name: str, token: str, question: str = "") -> None:
        self.act(conversations.put_aside, name, token, question)

    def take_up(self, name: str, token: str) -> Any:
        return self.act(conversations.take_up, name, token)

    def answer(self, name: str, read: int, rater: str, text: str) -> None:
        self.act(conversations.answer, name, read, self.programme.people[rater], text)

    def decide_standing(self, name: str, rater: str, task: str, state: str) -> None:
        self.act(assignments.decide_standing, name, self.reader(rater), task, state)

    def assign_work(self, name: str, rater: str, lines: str) -> None:
        self.act(assignments.assign_work, name, self.reader(rater), lines)

    def change_pool(self, name: str, lines: str, *members: str) -> None:
        self.act(assignments.change_pool, "lee", name, lines, members)

    def standing(self, name: str, task: str) -> tuple[Any, ...]:
        with self.database.read() as connection:
            standing = TaskAccess(connection, self.reader(name)).standings[task]
            return (standing.state, standing.exact, standing.papers)

    def reopen(self, name: str, row: int) -> None:
        self.act(settling.reopen, name, row, "rubric changed")

    def members(self, read: Any) -> list[Any]:
        with self.database.read() as connection:
            return list(group_members(connection, read.id))

    def row(self, number: int) -> Any:
        with self.database.read() as connection:
            return responses.row_of(connection, number)

    def execute(self, statement: str, **values: Any) -> Any:
        with self.database.write() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    def verify(self) -> tuple[int, str]:
        with self.database.read() as connection:
            return verify(connection)

    def wait(self, seconds: float) -> None:
        self.programme.clock[0] += seconds


def write_alerts(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write alerts of rows as `scoremux score --alert` does."""
    folder.mkdir(parents=True)
    alerts = [
        {"source": row["source"], "line": row["line"], "id": row["id"], "task": row["task"], "alert_task": "danger",
         "status": "OK", "probability": 0.85 if n else None, "version": "cd" * 32} for n, row in enumerate(rows)
    ]  # fmt: skip
    write_jsonl(folder / "part-000000.jsonl", alerts)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def check_counts(programme: Programme) -> None:
    """Check that the queues' counts are those of the reads."""
    with programme.database.read() as connection:
        query = select(reads.c.task, reads.c.reason, reads.c.state).where(reads.c.kind != "validity")
        states = Counter((r.task, r.reason, r.state) for r in connection.execute(query))
        for queue in connection.execute(select(queue_counts)):
            key = (queue.task, queue.reason)
            assert queue.waiting == sum(states[(*key, state)] for state in ("open", "leased", "aside"))
            assert queue.done == states[(*key, "done")]


def run_review(*arguments: object, text: str = "") -> str:
    """Run a subcommand in this process; return what it printed."""
    ran = CliRunner().invoke(review, [str(argument) for argument in arguments], input=text, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def sign_in(browser: Browser, name: str, password: str = PASSWORD) -> int:
    """Sign in with a password; return the answer's status."""
    browser.get("/login")
    return browser.post("/login", {"name": name, "password": password}).status_code
