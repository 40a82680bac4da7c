"""`scoremux train`, killed at any moment: the same command goes on to the same adapters."""

import resource
from pathlib import Path

import pytest
import torch

from interrupted_training import adapters, prepare, run_in_child, run_with_kills
from scoremux_files.errors import InputError
from scoremux_train.training.checkpoint import Checkpoint, TrainingState


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.nightly)])
def test_a_killed_run_resumes_to_the_same_adapters(tmp_path: Path, kills: int) -> None:
    folder = prepare(tmp_path)
    run_in_child(folder, tmp_path / "whole")
    assert run_with_kills(folder, tmp_path / "killed", kills=kills, seed=1, operations=30)
    assert adapters(tmp_path / "killed") == adapters(tmp_path / "whole")


def test_a_checkpoint_of_another_recipe_is_not_used(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    plan = (folder / "train.toml").read_text()
    (folder / "train.toml").write_text(plan.replace("rank = 4", "rank = 2"))
    run_in_child(folder, tmp_path / "out", (20, 0.0))
    assert list((tmp_path / "out" / ".training").glob("*.safetensors")), "it was killed before or after all checkpoints"
    (folder / "train.toml").write_text(plan)
    for out in ("out", "whole"):
        run_in_child(folder, tmp_path / out)
    assert adapters(tmp_path / "out") == adapters(tmp_path / "whole")


def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoint, state = Checkpoint(tmp_path, "one", 0), TrainingState.begin(torch.ones(4, 5000))
    checkpoint.save(state)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limit[1]))
    try:
        state.step = 1
        with pytest.raises(InputError, match=r"tasks\.safetensors cannot be written: "):
            checkpoint.save(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert Checkpoint(tmp_path, "of another recipe", 0).load() is None
    kept = checkpoint.load()
    assert kept is not None and kept.step == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.safetensors"]
