"""A writer of the drill of the change feed, which is killed at any time.

    python feed_writer.py DATABASE WHO URL…

sends rows to any of some APIs, and decides, undoes and reopens rows as a rater of this name.
"""

import os
import random
import sys
from contextlib import suppress
from pathlib import Path

import httpx
from sqlalchemy import func, select

from desks import Programme, Work
from scoremux_desk.database import accounts
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import ROW
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import ReviewError

POLICY = DeskPolicy(groups=False, guard_s=0, second_reads=0.2, adjudicate="never")


def work_on(database: Database) -> Work:
    """Return a desk on a database, with the people that it has."""
    with database.read() as connection:
        people = {account.name: account.id for account in accounts.listed(connection)}
    programme = Programme(Path(), database, None, people, [0.0])  # type: ignore[arg-type]
    return Work(programme, POLICY)


def write(name: str, who: str, *urls: str) -> None:
    """Send rows and decide some until killed."""
    work, number = work_on(Database(name)), 0
    with httpx.Client(timeout=40) as client:
        while True:
            number += 1
            prefix = f"{who}-{os.getpid()}-{number}"
            names = [f"{prefix}-{n}" for n in range(random.randint(1, 5))]
            rows = [{"id": name, "task": "t-1", "text": f"unsure {name}"} for name in names]
            with suppress(httpx.TransportError):
                client.post(f"{random.choice(urls)}/v1/score", json={"rows": rows})
            for _ in range(random.randint(1, 8)):
                act(work, who)


def act(work: Work, who: str) -> None:
    """Decide a row; now and then undo it, or have a settled one read again."""
    with suppress(ReviewError):  # another one was faster
        if random.random() < 0.1:
            with work.database.read() as connection:
                settled = connection.scalar(select(ROW.id).where(ROW.state == "done").order_by(func.random()).limit(1))
            if settled is not None:
                work.reopen("lee", settled)
        if (read := work.take(who)) is not None:
            work.decide(who, read.token, random.randrange(3), wait_s=0)
        if random.random() < 0.1:
            work.undo(who)


if __name__ == "__main__":
    write(*sys.argv[1:])
