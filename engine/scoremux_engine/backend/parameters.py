"""The parameters of Triton's models `scorer` and `backbone`, as their configurations name them."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from scoremux_engine.backend.audit_log import ROTATE_BYTES
from scoremux_engine.backend.models import BACKBONE
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.scoring.outcomes import PEOPLE
from scoremux_files.settings import validate


class Parameters(BaseModel, extra="ignore", frozen=True):
    """The configuration of a model. All parameters are optional, and 0 stands for the default.

    Attributes:
        repository: The folder with the exported `backbone` (default: the folder above the model repository).
        choice: From `runner`, `device`, `precision`, `threads` and `streams`. Runner `triton` calls the model
            `backbone_model` beside this one, whose bits are those of `arithmetic`; it takes `groups` rows a call.
        queue_rows, queue_bytes: Most rows and bytes of text that wait; requests beyond that are refused, unless nothing
            waits.
        uncalibrated: `machine` where the machine decides about tasks without a calibration (default: `human`).
        run_folder: For all that must outlive a dead stub: the rows in flight and whether the self-test passed.
        selftest: `short` (the default) or `off`; none with runner `triton`.
        grant_key_file: The key of the front door's grants; requests without a valid grant are then refused.
    """

    repository: Path
    store: Path
    choice: RunnerChoice
    backbone_model: str = BACKBONE
    arithmetic: str = ""
    groups: int = 0
    bank_bytes: int = 0
    micro_batch_tokens: int = 0
    queue_rows: int = 0
    queue_bytes: int = 0
    uncalibrated: str = PEOPLE
    run_folder: Path | None = None
    selftest: str = "short"
    metrics_tasks: int = 100
    grant_key_file: Path | None = None
    audit_log: Path | None = None
    audit_rotate_bytes: int = ROTATE_BYTES
    audit_key_file: Path | None = None

    @classmethod
    def of(cls, args: Mapping[str, str]) -> "Parameters":
        """Read the arguments with which Triton loads a model.

        Raises ValueError for a wrong number or where Triton is to cache responses.
        """
        config = json.loads(args["model_config"])
        if config.get("response_cache", {}).get("enable"):
            raise ValueError(
                "config.pbtxt enables response_cache; remove it: Triton would answer with scores of an older version "
                "after a publish"
            )
        values = config.get("parameters", {})
        texts = {name: value["string_value"] for name, value in values.items() if value["string_value"]}
        repository = Path(texts.get("repository") or Path(args["model_repository"]).absolute().parents[1])
        given = {"store": repository / "store", **texts, "repository": repository, "choice": RunnerChoice.of(texts)}
        return validate(cls.model_validate, given)
