"""What each of the 27 Triton models runs: texts in, a merged model's logits out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches
from benchmarks.peers.sessions import onnxruntime_session
from benchmarks.saf import SafRow


class TritonPythonModel:
    """Triton's own interface. One thread a session: other models run on the other cores."""

    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils

        self._utils: Any = triton_python_backend_utils
        config = json.loads(args["model_config"])
        self._session = onnxruntime_session(Path(config["parameters"]["onnx"]["string_value"]), threads=1)
        self._tokens = batches.TokenIds()

    def execute(self, requests: list[Any]) -> list[Any]:
        utils = self._utils
        texts = [utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[:, 0] for request in requests]
        rows = [SafRow("", "", text.decode(), -1) for request in texts for text in request]
        ids, mask = batches.padded(self._tokens.of(rows))
        logits = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        ends = np.cumsum([len(request) for request in texts])[:-1]
        return [
            utils.InferenceResponse([utils.Tensor("LOGITS", np.ascontiguousarray(part))])
            for part in np.split(logits, ends)
        ]
