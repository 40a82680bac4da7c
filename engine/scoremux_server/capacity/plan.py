"""From what was measured to machines, memory and disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scoremux_server.errors import SetupError

_MOST_MACHINES = 1e9


@dataclass(frozen=True)
class Demand:
    """What is to be done: so many responses in so many hours, for `tasks` with `versions` each kept in the store."""

    responses: float
    hours: float
    tasks: int = 0
    versions: int = 1


@dataclass(frozen=True)
class Rate:
    """rows_per_s: of one `unit`, a core or a card; source: where the figure comes from.

    measured_on: how many units gave it together; None where that is not known. repeated_share: of the rows that gave
    it, those that have task and text of another one before them; each of them was computed.
    """

    rows_per_s: float
    unit: str = "core"
    source: str = "given"
    measured_on: int | None = None
    repeated_share: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """Bytes: of a server without adapters, of a task in its bank, of a task package on disk. None: not known.

    growth_bytes: by which each stream of the runner may still grow; streams: of a machine, None for one a unit.
    """

    server_bytes: float | None = None
    bank_bytes: float | None = None
    package_bytes: float | None = None
    growth_bytes: float = 0.0
    streams: int | None = None


@dataclass(frozen=True)
class Fleet:
    """How the machines are: units in each, the share of their speed that is kept free, and machines to spare."""

    units: int
    headroom: float = 0.3
    spare: int = 1


@dataclass(frozen=True)
class Plan:
    """machines: `spare` included. rows_per_s: needed on the whole, and what one machine gives at full speed.

    busy: share of their full speed that the machines without the spare ones need; *_bytes: memory of one machine,
    with what its streams may still grow by, and of the store; None where a size is not known.
    """

    machines: int
    spare: int
    needed_rows_per_s: float
    machine_rows_per_s: float
    busy: float
    server_memory_bytes: float | None
    growth_bytes: float
    bank_bytes: float | None
    store_bytes: float | None


def plan(demand: Demand, rate: Rate, sizes: Sizes, fleet: Fleet) -> Plan:
    """machines = ⌈responses / (hours · 3600 · rows/s · units · (1 − headroom))⌉ + spare.

    Raises SetupError naming a number that makes no sense.
    """
    _check(demand, rate, fleet)
    needed = demand.responses / (demand.hours * 3600)
    machine = rate.rows_per_s * fleet.units
    speed = machine * (1 - fleet.headroom)
    if not needed / speed < _MOST_MACHINES:
        raise SetupError(
            f"that is more than {_MOST_MACHINES:g} machines; look at --responses, --hours and rows/s again"
        )
    working = max(1, math.ceil(needed / speed - 1e-9))
    bank = _times(sizes.bank_bytes, demand.tasks)
    packages = _times(sizes.package_bytes, demand.tasks * demand.versions)
    growth = sizes.growth_bytes * (sizes.streams or fleet.units)
    memory = None if bank is None or sizes.server_bytes is None else sizes.server_bytes + growth + bank
    return Plan(
        machines=working + fleet.spare,
        spare=fleet.spare,
        needed_rows_per_s=needed,
        machine_rows_per_s=machine,
        busy=needed / (machine * working),
        server_memory_bytes=memory,
        growth_bytes=growth,
        bank_bytes=bank,
        store_bytes=packages,
    )


def _times(size: float | None, count: int) -> float | None:
    return None if size is None else size * count


def _check(demand: Demand, rate: Rate, fleet: Fleet) -> None:
    for name, value in {
        "--responses": demand.responses,
        "--hours": demand.hours,
        "rows/s": rate.rows_per_s,
        "--units": fleet.units,
    }.items():
        if not 0 < value < math.inf:
            raise SetupError(f"{name} is {value:g}; it must be more than 0")
    if not 0 <= fleet.headroom < 1:
        raise SetupError(f"--headroom is {fleet.headroom:g}; it is a share of a machine's speed, from 0 to below 1")
