"""The first hour on a machine with a GPU: each step in a process of its own, bounded in time, its rows on disk at once.

    pip install -e '.[gpu]'
    python -m benchmarks gpu_hour --work FOLDER

Rows are appended to FOLDER/gpu_hour.jsonl as soon as a step ends, and FOLDER/gpu_hour.md has them as a table; a step
that fails does not stop the next. Without a GPU the same steps run on ONNX Runtime's CPU provider, but for those that
need a card, which are named as skipped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import psutil

from benchmarks.case import case
from benchmarks.child import ChildError
from benchmarks.data import Labelled, example_adapters
from benchmarks.peers.base import InstallError, Peer, load
from benchmarks.peers.peft_torch import CONVERTED
from benchmarks.peers.vllm_mixed import DTYPES, VLLM
from benchmarks.rows import Row, markdown
from benchmarks.serving import SCOREMUX, serving
from benchmarks.stores import store_of
from scoremux_client import Response, ScoringClient
from scoremux_engine.model.provenance import has_gpu, processor_name

Rows = list[dict[str, Any]]
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
BUDGETS = (2048, 8192, 16_384, 65_536)
CAPABILITIES = (80, 89, 90, 100)
WORDS = ["the", "router", "sends", "a", "packet", "to", "its", "next", "hop", "and", "an", "address", "names", "hosts"]


def device() -> str:
    return "cuda" if has_gpu() else "cpu"


def card(_: argparse.Namespace) -> Rows:
    """Name the card and its driver."""
    if not has_gpu():
        return [{"card": f"none ({processor_name()})"}]
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return [{"card": subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()}]


def kernels_compiled(_: argparse.Namespace) -> Rows:
    """Compile the kernel of `benchmarks/gpu.py` for each kind of card."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from benchmarks.gpu import _grouped_kernel

    sizes, rows = {"ADD": True, "S": 32, "K": 64, "N": 64}, []
    for kind in ("fp32", "fp16", "bf16"):
        pointers = {"x": f"*{kind}", "table": f"*{kind}", "group": "*i64", "out": f"*{kind}"}
        numbers = {"tokens": "i32", "d_in": "i32", "d_out": "i32", **dict.fromkeys(sizes, "constexpr")}
        source = ASTSource(_grouped_kernel, signature=pointers | numbers, constexprs=sizes)
        for capability in CAPABILITIES:
            triton.compile(source, target=GPUTarget("cuda", capability, 32))
            rows.append({"setting": f"{kind}, sm_{capability}", "figure": "compiled"})
    return rows


def kernels_checked(_: argparse.Namespace) -> Rows:
    """Compare the kernel with its oracle on the card."""
    from benchmarks.gpu import check

    return [{"setting": "largest relative difference", "figure": f"{check():.1e}"}]


def kernel_forms(arguments: argparse.Namespace) -> Rows:
    """Time the forms of the adapters' products at 27 and 1,000 tasks (`benchmarks/gpu.py`)."""
    from benchmarks.gpu import measure

    settings = {"models": ["minilm", "mpnet-base"], "precisions": ["float16", "float32"], "tasks": [27, 1000]}
    sizes = {"rows": arguments.rows, "budget": BUDGETS[2], "rounds": arguments.rounds}
    found = measure(argparse.Namespace(**settings, **sizes))
    return [{"setting": f"{r['model']}, {r['precision']}, {r['tasks']} tasks, {r['way']}", **r} for r in found]


def _runner(arguments: argparse.Namespace, precision: str) -> Any:
    from scoremux_engine.model.backbone import REDUCED, Backbone
    from scoremux_engine.runners.device import DeviceRunner
    from scoremux_export.plans.reduced_precision import write_reduced

    backbone = Backbone.open(arguments.repository / "backbone" / "1")
    if precision in REDUCED and not (backbone.folder / REDUCED[precision]).exists():
        write_reduced(backbone, precision)
    return backbone, DeviceRunner(backbone, device(), precision)


def distances_by_precision(arguments: argparse.Namespace) -> Rows:
    """Compare each precision with the expected outputs."""
    from scoremux_engine.runners.expected import distances

    rows = []
    for precision in PRECISIONS:
        try:
            found = " · ".join(map(str, distances(*_runner(arguments, precision))))
        except Exception as error:  # a card without bfloat16, say
            found = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        rows.append({"setting": precision, "figure": found})
    return rows


def _engine(arguments: argparse.Namespace, precision: str, budget: int = BUDGETS[0]) -> Any:
    from scoremux_engine import Engine
    from scoremux_engine.store.store import Store

    backbone, runner = _runner(arguments, precision)
    engine = Engine(backbone, Store(arguments.repository / "store"), runner, budget_tokens=budget)
    engine.bank.describe()
    return engine, runner


def mixes(arguments: argparse.Namespace) -> Rows:
    """Compare the bits of rows in random mixes with those of the rows alone."""
    from scoremux_engine.selftest import run_selftest

    rows = []
    for precision in ("float32", "float16"):
        test = run_selftest(_engine(arguments, precision)[0], mixes=arguments.mixes)
        rows.append({"setting": f"{precision}, {test.mixes} mixes", "figure": str(test.changed or "no bit changed")})
    return rows


def rates(arguments: argparse.Namespace) -> Rows:
    """Time made-up short answers by precision and micro-batch; count the tables that are copied."""
    draw, rows = random.Random(0), []
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 25))) for _ in range(arguments.rows)]
    for precision in ("float32", "float16"):
        for budget in BUDGETS if has_gpu() else BUDGETS[:2]:
            engine, runner = _engine(arguments, precision, budget)
            tasks = draw.choices(engine.bank.tasks, k=len(texts))
            engine.logits(texts, tasks)
            copied, took = runner.slots_copied + runner.tables_copied, []
            for _ in range(arguments.rounds):
                started = time.perf_counter()
                engine.logits(texts, tasks)
                took.append(time.perf_counter() - started)
            copied = runner.slots_copied + runner.tables_copied - copied
            figure = f"{len(texts) / sorted(took)[len(took) // 2]:,.0f} rows/s, {copied} tables copied"
            rows.append({"setting": f"{precision}, {budget} tokens", "figure": figure, "seconds": took})
    return rows


def _responses(arguments: argparse.Namespace, rows: int) -> list[Response]:
    """Return made-up short answers to tasks of the repository."""
    draw = random.Random(1)
    manifest = json.loads((arguments.repository / "store" / "manifest.json").read_bytes())
    tasks = sorted(manifest["tasks"])
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 25))) for _ in range(rows)]
    return [Response(draw.choice(tasks), text, id=f"r{number}") for number, text in enumerate(texts)]


def _served(arguments: argparse.Namespace, *settings: str) -> Rows:
    """Serve, and put mixed load on it: requests of 1 to 64 rows from eight threads."""
    log, responses = arguments.work / "gpu_hour.serve.log", _responses(arguments, 4096)
    before, begun = psutil.disk_usage("/dev/shm").used, time.perf_counter()
    levels: dict[str, set[Any]] = {response.id or "": set() for response in responses}
    counts, most = Counter[str](), 0
    with serving(arguments.repository, log, *settings) as server:
        ready, ends = time.perf_counter() - begun, time.monotonic() + arguments.load_s

        def load(seed: int) -> None:
            draw = random.Random(seed)
            with ScoringClient(server.grpc_url) as client:
                while time.monotonic() < ends:
                    rows = draw.sample(responses, draw.choice((1, 8, 64)))
                    for response, scored in zip(rows, client.score(rows), strict=True):
                        counts[str(scored.status)] += 1
                        levels[response.id or ""].add(scored.level)

        callers = [threading.Thread(target=load, args=(seed,)) for seed in range(8)]
        for caller in callers:
            caller.start()
        while any(caller.is_alive() for caller in callers):
            most = max(most, psutil.disk_usage("/dev/shm").used - before)
            time.sleep(0.1)
    wrong = log.read_text(encoding="utf-8").count("than the first time")
    moved = sum(len(seen) > 1 for seen in levels.values())
    figures = (
        f"ready in {ready:.1f} s; {sum(counts.values()) / arguments.load_s:,.0f} rows/s; {dict(counts)}; {wrong} WRONG "
        f"canaries; {moved} texts changed their level; /dev/shm {most / 1e6:,.0f} MB"
    )
    return [{"setting": " ".join(settings), "figure": figures, "statuses": dict(counts), "moved": moved}]


def served_by_onnxruntime(arguments: argparse.Namespace) -> Rows:
    """Serve the profile `gpu-onnx`: the backbone under Triton's own ONNX Runtime backend."""
    folder = ("--set", f"triton={arguments.triton}") if arguments.triton else ()
    return _served(arguments, "--profile", "gpu-onnx", *folder)


def plan(arguments: argparse.Namespace) -> Rows:
    """Build a plan of two profiles: for this card, and without one by TensorRT for RTX."""
    from scoremux_export.plans.build_plan import export_plan

    begun = time.perf_counter()
    made = export_plan(arguments.repository, capabilities=() if has_gpu() else ("8.9",))
    took, contexts = time.perf_counter() - begun, sum(made.context_bytes) / 1e6
    computed = made.memory_bytes / 1e6
    figure = f"built in {took:.0f} s; {computed:,.0f} MB computed, contexts take {contexts:,.0f} MB; {made.parity}"
    return [{"setting": f"{made.runtime} {made.version}, {len(made.profiles)} profiles", "figure": figure}]


def served_by_tensorrt(arguments: argparse.Namespace) -> Rows:
    """Serve the plan."""
    return _served(arguments, "--profile", "gpu-tensorrt")


def job(arguments: argparse.Namespace) -> Rows:
    """Score a file by `scoremux score` against profile `gpu`, or `cpu-reference` without a card."""
    source, out = arguments.work / "gpu_hour.rows.jsonl", arguments.work / "gpu_hour-scored"
    with source.open("w", encoding="utf-8") as file:
        for row in _responses(arguments, arguments.job_rows):
            file.write(json.dumps({"id": row.id, "task": row.task, "text": row.text}) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    profile = "gpu" if has_gpu() else "cpu-reference"
    with serving(arguments.repository, arguments.work / "gpu_hour.serve.log", "--profile", profile) as server:
        begun = time.perf_counter()
        command = [SCOREMUX, "score", str(source), "--out", str(out), "--url", server.grpc_url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-300:])
        rate = arguments.job_rows / (time.perf_counter() - begun)
    return [{"setting": f"{profile}, {arguments.job_rows:,} rows", "figure": f"{rate:,.0f} rows/s"}]


def _timed(arguments: argparse.Namespace, *peers: Peer) -> Rows:
    """Time peers with the 27 example adapters, each in a process of its own; say how far each is from the first."""
    draw, tasks, rows = random.Random(0), [folder.name for folder in example_adapters()], list[dict[str, Any]]()
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 25))) for _ in range(arguments.rows)]
    labelled = [Labelled(str(number), draw.choice(tasks), text, 0) for number, text in enumerate(texts)]
    first = None
    for peer in peers:
        try:
            with load(peer, arguments.work, labelled) as child:
                _, logits = child.logits(range(len(texts)))
                took = [child.logits(range(len(texts)))[0] for _ in range(arguments.rounds)]
                setting = f"{peer.name}, {child.setting()}"
        except (InstallError, ChildError) as error:
            rows.append({"setting": peer.name, "figure": f"refused: {error}"})
            continue
        first = logits if first is None else first
        figure = f"{len(texts) / sorted(took)[len(took) // 2]:,.0f} rows/s, {np.abs(logits - first).max():.1e} apart"
        rows.append({"setting": setting, "figure": figure, "seconds": took})
    return rows


def peers(arguments: argparse.Namespace) -> Rows:
    """Time PEFT and merged models in torch, in the precision and the size of batch that are fastest."""
    kinds = {"device": device(), "precisions": ("float32", CONVERTED) if has_gpu() else ("float32",)}
    ways = {"mixed batch": "PeftMixed", "set_adapter": "PeftSwitched", "a model for each task": "PeftMerged"}
    return _timed(arguments, *(Peer(f"PEFT, {name}", f"peft_torch:{way}", kinds) for name, way in ways.items()))


def vllm(arguments: argparse.Namespace) -> Rows:
    """Time vLLM in both precisions, in a virtual environment of its own."""
    alone = Peer("PEFT, mixed batch", "peft_torch:PeftMixed", {"device": device()})
    return _timed(arguments, alone, *(dataclasses.replace(VLLM, options={"dtype": dtype}) for dtype in DTYPES))


Step = Callable[[argparse.Namespace], Rows]
STEPS: tuple[tuple[Step, bool, float], ...] = (
    (card, False, 30),
    (kernels_compiled, False, 180),
    (kernels_checked, True, 180),
    (kernel_forms, True, 900),
    (distances_by_precision, False, 300),
    (mixes, False, 600),
    (rates, False, 600),
    (served_by_onnxruntime, False, 900),
    (plan, False, 900),
    (served_by_tensorrt, True, 900),
    (peers, False, 600),
    (vllm, True, 1500),
    (job, False, 900),
)
"""What is measured, whether it needs a card, and how many seconds it may take."""


def _in_child(step: Step, arguments: argparse.Namespace, results: Any) -> None:
    try:
        results.put(step(arguments))
    except Exception as error:
        results.put(f"failed: {type(error).__name__}: {error}")


def _run(step: Step, arguments: argparse.Namespace, seconds: float) -> Rows | str:
    context = get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_in_child, args=(step, arguments, results))
    child.start()
    ends, found = time.monotonic() + seconds, "failed: the process died"
    while time.monotonic() < ends:
        alive = child.is_alive()
        try:
            found = results.get(timeout=1)
            break
        except Empty:
            if not alive:
                break
    else:
        found = f"failed: it took more than {seconds:.0f} s"
    child.kill()
    child.join()
    return found


@case(
    columns="step; setting; figure; status; seconds = step_s:.0f; card",
    keys="card step setting",
    options={
        "--repository": {"type": Path, "help": "an exported backbone with a store (default: 27 example tasks)"},
        "--triton": {"type": Path, "help": "a Triton with the backend onnxruntime (default: the profile's)"},
        "--load-s": {"type": float, "default": 600.0, "help": "seconds of mixed load (default: %(default)s)"},
        "--job-rows": {"type": int, "default": 100_000, "help": "default: %(default)s"},
        "--mixes": {"type": int, "default": 300, "help": "random mixes of rows (default: %(default)s)"},
    },
    defaults={"rows": 2048, "rounds": 5},
)
def gpu_hour(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """The first hour on a GPU."""
    arguments.repository, arguments.work = arguments.repository or store_of(27, work), work
    name, out = "", work / "gpu_hour.jsonl"
    heads, lines = ["step", "setting", "figure", "status", "seconds"], list[list[str]]()
    for step, needs_card, seconds in STEPS:
        started = time.perf_counter()
        found: Rows | str = "skipped: needs a card"
        if has_gpu() or not needs_card:
            found = _run(step, arguments, seconds)
        status, rows = (found, [{}]) if isinstance(found, str) else ("ok", found)
        name = name or rows[0].get("card", "")
        about = {"card": name, "step": step.__name__, "status": status, "step_s": time.perf_counter() - started}
        made = [{**about, **row} for row in rows]
        with out.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in made)
            file.flush()
            os.fsync(file.fileno())
        for row in made:
            lines.append([*(str(row.get(head, "")) for head in heads[:-1]), f"{row['step_s']:.0f}"])
        page = [f"# The first hour on a GPU: {name}", "", *markdown(heads, lines), ""]
        (work / "gpu_hour.md").write_text("\n".join(page), encoding="utf-8")
        yield from made
