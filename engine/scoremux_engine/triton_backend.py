"""The `scorer` model inside Triton's Python backend: the one file that knows Triton's Python API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from scoremux_client import contract
from scoremux_engine.engine import Engine
from scoremux_engine.runners.choose import RunnerChoice


class TritonPythonModel:
    """Scores the rows of all requests Triton hands over as one batch.

    Parameters of the model configuration: `repository` (its `backbone`), `store`, and `runner`, `device`, `precision`,
    `threads` as in `RunnerChoice` (threads 0: all cores).
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Open the engine. An error here is what Triton reports as the reason why the model did not load."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        runner = RunnerChoice(
            name=parameters["runner"],
            device=parameters["device"],
            precision=parameters["precision"],
            threads=int(parameters["threads"]) or None,
        )
        self._engine = Engine.open(Path(parameters["repository"]), store=parameters["store"], runner=runner)
        pb_utils.Logger.log_info(f"scorer: {len(self._engine.bank.tasks)} tasks on {self._engine.backbone.spec.source}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response a request, in order."""
        inputs = [
            [pb_utils.get_input_tensor_by_name(request, spec.name).as_numpy().ravel() for spec in contract.INPUTS]
            for request in requests
        ]
        texts, tasks = (np.concatenate(columns).tolist() for columns in zip(*inputs, strict=True))
        try:
            columns = self._engine.score_columns(texts, tasks)
        except Exception as error:
            # The message of an unforeseen error may quote its input; its type does not.
            message = f"scoring failed: {type(error).__name__}"
            pb_utils.Logger.log_error(message)
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(message)) for _ in requests]
        ends = np.cumsum([len(texts) for texts, _ in inputs]).tolist()
        return [_respond(r, columns, slice(e - len(t), e)) for r, (t, _), e in zip(requests, inputs, ends, strict=True)]


def _respond(request: Any, columns: dict[str, npt.NDArray[Any]], part: slice) -> Any:
    wanted = set(request.requested_output_names())
    tensors = [pb_utils.Tensor(name, array[part]) for name, array in columns.items() if name in wanted]
    return pb_utils.InferenceResponse(output_tensors=tensors)
