"""1,000 resident tasks against 27: throughput on traffic to all of them, memory a further task costs.

python -m benchmarks.residency --data ../shared/data/saf
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.saf import ADAPTERS, prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import sample
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store

COMMAND = "python -m benchmarks.residency --data SAF"
_MEASURE = """
import sys
from pathlib import Path
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice
engine = Engine.open(sys.argv[1], runner=RunnerChoice("openvino", precision=sys.argv[2]))
engine.bank.load_live()
print(int(Path("/proc/self/statm").read_text().split()[1]))
"""


def resident_bytes(repository: Path, precision: str) -> int:
    """Return the resident set size of a fresh process that holds an engine on `repository`."""
    command = [sys.executable, "-c", _MEASURE, str(repository), precision]
    pages = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return pages * os.sysconf("SC_PAGE_SIZE")


def multiply(count: int, target: Path) -> list[Path]:
    """Write `count` adapter folders, the 27 over and over under new ids."""
    originals = sorted(p for p in ADAPTERS.iterdir() if p.is_dir())
    folders = []
    for number in range(count):
        folder = shutil.copytree(originals[number % len(originals)], target / f"task-{number:04}")
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        (folder / "task.json").write_text(json.dumps({**task, "id": folder.name}), encoding="utf-8")
        folders.append(folder)
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--precision", default="int8")
    args = parser.parse_args()
    texts = [row.text for row in sample(args.data, 512)]
    runner = RunnerChoice("openvino", precision=args.precision)
    with tempfile.TemporaryDirectory() as scratch:
        repository = prepare(Path(scratch) / "few")
        many = Path(scratch) / "many"
        folders = multiply(args.tasks, Path(scratch) / "adapters")
        shutil.copytree(repository / "backbone", many / "backbone")
        few = Engine.open(repository, runner=runner)
        Store(many / "store").add(folders, few.backbone)
        big = Engine.open(many, runner=runner)
        grown = resident_bytes(many, args.precision) - resident_bytes(repository, args.precision)
        file_bytes = sum((f / "adapter_model.safetensors").stat().st_size for f in folders) / len(folders)
        tasks = {"27": few.bank.tasks, str(args.tasks): big.bank.tasks}
        works = {
            f"{len(few.bank.tasks)} tasks": lambda: few.logits(texts, [tasks["27"][i % 27] for i in range(512)]),
            f"{args.tasks} tasks": lambda: big.logits(
                texts, [tasks[str(args.tasks)][i * 7 % args.tasks] for i in range(512)]
            ),
        }
        timings = interleave(works, args.rounds)
    share = ratio(timings, f"{args.tasks} tasks", "27 tasks")
    per_task = grown / (args.tasks - len(few.bank.tasks))
    table = Table("", f"openvino {args.precision}")
    for name, timing in timings.items():
        table.add_row(f"rows/s, traffic to all {name}", f"{512 / timing.median_s:,.0f}")
    table.add_row("share", f"{share:.3f}")
    table.add_row("memory a further task", f"{per_task / 1e3:,.0f} kB, {per_task / file_bytes:.2f} × its adapter file")
    Console().print(table)
    figures = {"tasks": args.tasks, "precision": args.precision, "share": share, "bytes_per_task": per_task}
    record("residency", COMMAND, {**figures, "times_adapter_file": per_task / file_bytes})


if __name__ == "__main__":
    main()
