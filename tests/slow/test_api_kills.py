"""APIs, desk, Triton and follower are killed at random while rows come and people decide: no row or change is lost."""

import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

import feed_follower
import postgres
from desks import FAST_HASHER, PASSWORD
from killable import Killable, listening
from making import TASKS, WORDS
from scoremux_desk.database.accounts import add_person, begin_session
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import save_policy
from scoremux_desk.database.schema import (
    api_rows,
    decisions,
    people,
    rows,
    sessions,
)
from scoremux_desk.desk_policy import DeskPolicy
from serving import run_here, serving
from waiting import Result, Scaled, side_by_side, until

LEADER, RATERS = "lee", ("anna", "ben", "cleo", "dora", "emil")
TOKEN = re.compile(r'name="token" value="([^"]+)"')
POLICY = DeskPolicy(groups=False, guard_s=0, second_reads=0.2, adjudicate="never")


@dataclass
class Drill:
    """What a platform and its raters do, and what they were told. sent: ids of the rows for people, and their tasks."""

    database: Database
    apis: Sequence[Killable]
    desk: Killable
    sessions: dict[str, str]
    keys: dict[str, str]
    sent: dict[str, str] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    over: threading.Event = field(default_factory=threading.Event)  # nothing more comes, nobody is killed
    drained: threading.Event = field(default_factory=threading.Event)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=40))

    def ask(self, servers: Sequence[Killable], method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, again and again until it is answered, to any of some servers."""
        while True:
            answer = None
            with suppress(httpx.TransportError):
                answer = self.http.request(method, random.choice(servers).url + path, **options)
            if answer is not None and answer.status_code < 500:
                return answer
            self.retries += 1
            time.sleep(random.uniform(0.1, 0.5))

    def rows(self, name: str, count: int) -> list[dict[str, str]]:
        names = [f"{name}-{n}" for n in range(count)]
        texts = [" ".join([*random.choices(WORDS, k=random.randrange(20)), name]) for name in names]
        return [{"id": n, "task": random.choice([*TASKS]), "text": t} for n, t in zip(names, texts, strict=True)]

    def keep(self, rows: list[dict[str, Any]], sent: list[str]) -> None:
        assert [row["id"] for row in rows] == sent and all(row["route"].startswith("human:") for row in rows)
        self.sent |= {row["id"]: row["task"] for row in rows}

    def send_rows(self, platform: int) -> None:
        while not self.over.wait(random.uniform(0.2, 1)):
            rows = self.rows(f"live-{platform}-{time.time()}", random.randint(1, 5))
            answer = self.ask(self.apis, "POST", "/v1/score", json={"rows": rows})
            self.keep(answer.raise_for_status().json()["rows"], [row["id"] for row in rows])

    def at_desk(self, who: str, method: str, path: str, **form: Any) -> tuple[str, str]:
        """Return the page that the desk answers with, and the lease's token on it, empty without one."""
        headers = {"X-Desk": "1", "Cookie": f"desk={self.sessions[who]}"}
        form |= {"form_key": self.keys[who]}
        page = self.ask([self.desk], method, path, headers=headers, data=form).text
        return page, (TOKEN.findall(page) or [""])[0]

    def rate(self, who: str) -> None:
        _, token = self.at_desk(who, "GET", "/read")
        while not self.drained.wait(random.uniform(0, 0.2) if token else 1):
            if not token:
                _, token = self.at_desk(who, "GET", "/read")
                continue
            page, after = self.at_desk(who, "POST", "/decide", token=token, level=random.randrange(2))
            if "nothing was saved" not in page:
                self.decided.add(token)
            token = after
            if random.random() < 0.05 and not self.over.is_set():
                _, token = self.at_desk(who, "POST", "/undo")

    def reopen(self) -> None:
        settled = select(rows.c.id).where(rows.c.state == "done", rows.c.round == 1)  # nobody reads a row twice
        while not self.over.wait(random.uniform(1, 5)):
            with self.database.read() as connection:
                found = connection.scalars(settled).all()
            if found:
                self.at_desk(LEADER, "POST", f"/rows/{random.choice(found)}/reopen", why="again")

    def kill(self, victims: dict[str, Callable[[], object]]) -> None:
        while not self.over.wait(random.uniform(1, 6)):
            name = random.choice([*victims])
            with suppress(ValueError, ProcessLookupError):  # the watcher is restarting Triton
                victims[name]()
                self.kills[name] += 1

    def run(self, seconds: float, victims: dict[str, Callable[[], object]]) -> None:
        """Do it all for so long, then read what is left. Raises what a part raises."""
        with ThreadPoolExecutor(16) as threads:
            parts = [threads.submit(self.send_rows, platform) for platform in range(3)]
            parts += [threads.submit(self.rate, who) for who in RATERS]
            parts += [threads.submit(self.reopen)]
            parts += [threads.submit(self.kill, victims)]
            try:
                wait(parts, seconds, FIRST_EXCEPTION)
                self.over.set()
                until(lambda: any(p.done() and p.exception() for p in parts) or self.is_drained(), within_s=900)
            finally:
                self.over.set()
                self.drained.set()
            for part in parts:
                part.result()

    def is_drained(self) -> bool:
        with self.database.read() as connection:
            return not connection.scalar(select(func.count()).where(rows.c.state != "done"))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost(kind: str, small_repository: Path, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    with ExitStack() as stack:
        name = stack.enter_context(postgres.database_name(kind, tmp_path))
        database = stack.enter_context(closing(Database(name, create=True)))
        server = stack.enter_context(serving(small_repository, tmp_path))
        command = ("api", "--database", name, "--url", server.endpoints.grpc_url)
        apis = [listening(tmp_path / f"api {n}", *command) for n in range(2)]
        desk = listening(tmp_path / "desk", "review", "open", "--database", name)
        urls = [api.url for api in apis]
        file = tmp_path / "changes.jsonl"
        follower = Killable(tmp_path / "follower", sys.executable, feed_follower.__file__, file, *urls)
        for process in (follower, *apis, desk):
            stack.callback(process.kill)
        for process, path in ((desk, "/login"), *((api, "/readyz") for api in apis)):
            process.wait_for(path)
        drill = Drill(database, apis, desk, *sign_in(database))
        victims = {f"API {n}": api.restart for n, api in enumerate(apis, start=1)}
        victims |= {"desk": desk.restart, "follower": follower.restart}
        drill.run(scaled(1200), {**victims, "tritonserver": lambda: os.kill(server.triton, signal.SIGKILL)})
        last = drill.ask(apis, "GET", "/v1/changes").json()["cursor"]
        while (page := drill.ask(apis, "GET", "/v1/changes", params={"after": last}).json())["changes"]:
            last = page["cursor"]
        until(lambda: [*feed_follower.pages(file)][-1]["cursor"] == last)
        changes = [change for page in feed_follower.pages(file) for change in page["changes"]]
        wrong, figure = check(drill, name, tmp_path, changes)
    kills = ", ".join(f"{name} {count}" for name, count in sorted(drill.kills.items()))
    result(f"API, desk, Triton and follower killed for {scaled(1200)} s on {kind}", f"{figure}; SIGKILLs: {kills}")
    assert not wrong


def sign_in(database: Database) -> tuple[dict[str, str], dict[str, str]]:
    """Make the people; return the cookie and the form key of each."""
    with database.write() as connection:
        save_policy(connection, POLICY, "test")
    roles = {LEADER: "leader", **dict.fromkeys(RATERS, "rater")}
    ids = {who: add_person(database, who, role, PASSWORD, "test", FAST_HASHER) for who, role in roles.items()}
    cookies = {who: begin_session(database, person) for who, person in ids.items()}
    with database.read() as connection:
        found = connection.execute(select(people.c.name, sessions.c.form_key).join(sessions))
        return cookies, {row.name: row.form_key for row in found}


def check(drill: Drill, name: str, folder: Path, changes: list[dict[str, Any]]) -> tuple[list[str], str]:
    """Compare what platform, raters and follower were told; return what is lost or wrong, and the figures."""
    assert run_here("review", "verify", "--database", name).returncode == 0
    assert run_here("review", "export", "--database", name, "--out", folder / "final.jsonl").returncode == 0
    final = {row["id"]: row for row in map(json.loads, (folder / "final.jsonl").read_text().splitlines())}
    with drill.database.read() as connection:
        at_desk = Counter(connection.scalars(select(api_rows.c.name)))
        decided = connection.scalar(select(func.count()).select_from(decisions))
    told = defaultdict[str, list[Any]](list)
    for change in changes:
        told[change["id"]].append(change)
    cursors = [int(change["cursor"].partition("-")[0]) for change in changes]
    lost = [*(drill.sent.keys() - at_desk.keys()), *(final.keys() - told.keys())]
    wrong = [row for row, times in at_desk.items() if times > 1 or row not in drill.sent or row not in final]
    wrong += [] if decided == len(drill.decided) else [f"{len(drill.decided)} decisions told, {decided} kept"]
    wrong += [] if cursors == sorted({*cursors}) else ["changes came twice or out of order"]

    def compare(names: list[str]) -> None:
        for row in names:
            shown = drill.ask(drill.apis, "GET", f"/v1/rows/{drill.sent[row]}/{row}").json()
            state = ["final", *["corrected"] * (len(told[row]) - 1)], "corrected" if told[row][1:] else "final"
            levels = [of["level"] for of in (final[row], shown, *told[row][-1:])]
            is_same = len(levels) == 3 and len({*levels}) == 1 and levels[0] is not None
            if not is_same or state != ([change["type"] for change in told[row]], shown["state"]):
                wrong.append(f"{row}: {levels}, {state}, {shown}")

    names = [row for row in drill.sent if row in final]
    side_by_side(compare, [names[n::4] for n in range(4)])
    figure = (
        f"{len(drill.sent):,} rows, {decided:,} decisions, {len(changes):,} changes; {len(lost)} lost, "
        f"{len(wrong)} wrong; {drill.retries:,} requests sent again"
    )
    return lost + wrong, figure
