"""What peers get must be the same adapters: renamed, merged or converted, never changed."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peer_tables import peers, replaced
from benchmarks.peers import batches, graphs
from benchmarks.peers.__main__ import waves
from benchmarks.peers.adapters import PREFIX, Adapter, read_all, renamed, rewritten
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.latefuse import RENAME
from benchmarks.peers.measure import latency, worst
from benchmarks.peers.peer import PeerSpec
from benchmarks.peers.traffic import poisson, serve
from benchmarks.peers.venv import behind
from benchmarks.saf import ADAPTERS, SafRow
from benchmarks.switching import cost_ms, in_turn

TASK = "en-6.3-ipp"
QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return Adapter.read(ADAPTERS / TASK)


def row(task: str, text: str = "") -> SafRow:
    return SafRow("r", task, text, 0)


def test_all_27_adapters_are_read() -> None:
    assert len(read_all()) == 27


def test_a_delta_is_scaling_times_b_a(adapter: Adapter) -> None:
    deltas = adapter.deltas()
    a, b = (adapter.tensors[f"{PREFIX}{QUERY}.lora_{side}.weight"] for side in "AB")
    assert len(deltas) == 12
    np.testing.assert_allclose(deltas[QUERY], 16 / 8 * b @ a, rtol=1e-6)


def test_merging_changes_sites_and_head_alone(adapter: Adapter) -> None:
    base = {f"{site}.weight": np.ones((384, 384), dtype=np.float32) for site in adapter.deltas()}
    merged = graphs.merged(base, adapter)
    assert set(merged) == {*base, "classifier.weight", "classifier.bias"}
    np.testing.assert_allclose(merged[f"{QUERY}.weight"], 1 + adapter.deltas()[QUERY], rtol=1e-6)
    np.testing.assert_array_equal(merged["classifier.bias"], adapter.head()[1])


def test_keys_are_renamed_and_tensors_stay(adapter: Adapter, tmp_path: Path) -> None:
    folder = rewritten(adapter, tmp_path, config={"lora_dropout": 0.0}, rename=RENAME, head=False)
    again = Adapter.read(folder)
    assert again.config == {**adapter.config, "lora_dropout": 0.0}
    assert f"{PREFIX}encoder.layer.0.attention.self.query.lora_A.weight" in again.tensors
    assert len(again.tensors) == len(adapter.tensors) - 2  # the head's weight and bias
    for key, tensor in adapter.tensors.items():
        if "classifier" not in key:
            np.testing.assert_array_equal(again.tensors[renamed(key, RENAME)], tensor)


def test_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(3, 512, 300)]
    parts = batches.by_length(lengths, rows_most=32, tokens_most=2048)
    assert sorted(i for part in parts for i in part) == list(range(300))
    assert all(len(part) <= 32 for part in parts)
    assert all(len(part) * max(lengths[i] for i in part) <= 2048 for part in parts)


def test_batches_of_one_task_hold_no_other() -> None:
    rows = [row(task) for task in "abcabcaab"]
    parts = batches.by_task_and_length(rows, [[1] * (i + 1) for i in range(9)])
    assert sorted(i for _, part in parts for i in part) == list(range(9))
    assert all(rows[i].task == task for task, part in parts for i in part)


def test_the_worst_logit_may_ignore_a_constant() -> None:
    logits = np.array([[0.0, 1.0, 2.0]], dtype=np.float32)
    assert worst(logits + 3, logits) == pytest.approx(3)
    assert worst(logits + 3, logits, up_to_a_constant=True) == pytest.approx(0, abs=1e-6)
    assert math.isnan(worst(np.full_like(logits, np.nan), logits))


class Slow:
    """A peer that takes 20 ms a call."""

    pid = 0

    def logits(self, rows: list[SafRow]) -> np.ndarray:
        import time

        time.sleep(0.02)
        return np.zeros((len(rows), 5), dtype=np.float32)

    def weights_bytes(self) -> int:
        return 0

    def close(self) -> None: ...


def test_rows_that_wait_go_together_and_a_peer_that_falls_behind_is_cut_off() -> None:
    rows = [row("a")] * 100
    together = serve(Slow(), rows, [0.0] * 100, give_up_s=5)
    assert together["served"] == 100
    assert together["latencies_s"][99] < 3 * together["latencies_s"][0]  # 64 and 36 rows, not a hundred calls
    behind_ = serve(Slow(), rows, [0.0] * 100, give_up_s=0.01)
    assert latency(behind_, 100)["p99_ms"] is None


def test_arrivals_have_the_rate() -> None:
    times = poisson(5000, 20)
    assert times == sorted(times)
    assert 5000 / times[-1] == pytest.approx(20, rel=0.05)


def test_in_turn_never_repeats_a_task() -> None:
    rows = [row(task) for task in "aaabbbcc"]
    order = [rows[i].task for i in in_turn(rows, 4)]
    assert len(order) == 12
    assert all(one != next_ for one, next_ in itertools.pairwise(order))


def test_the_cost_of_a_switch_is_the_median_gap() -> None:
    stayed = np.random.default_rng(1).normal(0.02, 0.0001, (3, 60))
    assert cost_ms(stayed + 0.005, stayed)["median_ms"] == pytest.approx(5)
    free = cost_ms(stayed[:, ::-1], stayed)
    assert free["low_ms"] < 0 < free["high_ms"]


def test_specs_survive_the_pipe_and_peers_come_in_both_settings() -> None:
    from dataclasses import asdict

    for spec in PEERS:
        assert type(spec)(**json.loads(json.dumps(asdict(spec)))).name == spec.name
    assert any(spec.default for spec in PEERS)
    assert len({spec.name for spec in PEERS}) == len(PEERS)


def test_a_child_never_gets_this_pythons_standard_library() -> None:
    entries = behind(sys.path)
    assert not any(Path(entry, "json", "__init__.py").exists() for entry in entries)
    assert any(Path(entry, "numpy").is_dir() for entry in entries)


def test_a_table_goes_between_its_marks_and_nowhere_else() -> None:
    page = "a\n<!-- peers: python -m benchmarks.peer_tables -->\nold\n<!-- end of peers -->\nb\n"
    made = replaced(page, "peers", "new")
    assert "new" in made and "old" not in made
    assert made.startswith("a\n") and made.endswith("\nb\n")
    with pytest.raises(ValueError, match="paper"):
        replaced(page, "paper", "new")


def test_peers_that_take_gigabytes_are_loaded_alone_with_ours() -> None:
    ours, light, first, second = (
        PeerSpec(name, "", reference=name == "ours", heavy=len(name) == 1) for name in ("ours", "light", "a", "b")
    )
    assert waves([ours, light, first, second]) == [[ours, light], [ours, first], [ours, second]]
    assert waves([ours, first]) == [[ours, first]]
    assert waves([ours]) == [[ours]]


def test_a_peer_that_was_refused_keeps_its_reason() -> None:
    row = {"peer": "p", "default": False, "refused": "no wheel", "rate_rows_per_s": 20.0}
    assert "not measured: no wheel" in peers([row])
