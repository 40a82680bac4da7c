"""The models inside Triton's Python backend, `scorer` and `backbone`: the one file that knows Triton's Python API."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from scoremux_client import contract
from scoremux_engine.bank.bank import BUDGET_BYTES
from scoremux_engine.engine import BUDGET_TOKENS, Engine
from scoremux_engine.errors import AuditError, EngineError, GrantError, RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.runners.runner import Floats, RowInputs
from scoremux_engine.runners.triton_model import TritonRunner
from scoremux_engine.scoring.permission import Grant, Permissions, read_key
from scoremux_engine.store.store import Store
from scoremux_engine.triton import metrics
from scoremux_engine.triton.audit import Audit, AuditSettings
from scoremux_engine.triton.metrics import Changes, Kind, Publisher, Recorder, Series, TaskLabels
from scoremux_engine.triton.models import BACKBONE
from scoremux_engine.triton.run_folder import RunFolder

Arrays = dict[str, npt.NDArray[Any]]

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread that wants Python's lock waits for one that computes. A batch's thread gives it up for each file
that it reads, and would wait 5 ms each time while the bank's thread describes or loads a large store."""


class Scorer:
    """Scores the rows of all requests Triton hands over as one batch.

    Parameters of the model configuration, all optional:
    `repository`: folder with the exported `backbone` (default: the folder above the model repository);
    `store`: folder of task packages (default: `repository`/store);
    `runner`, `device`, `precision`, `threads`, `streams`: as in `RunnerChoice`, 0 for None; runner `triton` calls the
    model `backbone_model` (default: `backbone`) beside this one;
    `bank_bytes`: most memory for adapters, 0 for the engine's default;
    `micro_batch_tokens`: most padded tokens of a micro-batch, 0 for the engine's default;
    `run_folder`: folder for what must outlive a dead stub: labels of metrics, the rows in flight, what `auto` chose and
    whether the self-test passed (default: none);
    `selftest`: `short` (the default) or `off`; none with runner `triton`;
    `metrics_tasks`: how many tasks get metrics of their own; `audit_…`: as `AuditSettings` reads them.
    `grant_key_file`: the key of the front door's grants; requests without a valid grant are then refused.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Open the engine. An error here is what Triton reports as the reason why the model did not load."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        parameters = _parameters(args)
        repository = _repository(args, parameters)
        run_folder = RunFolder(Path(parameters["run_folder"]) if parameters.get("run_folder") else None)
        backbone = Backbone.open(repository / "backbone" / "1")
        choice = _choice(parameters)
        calls = choice.name == "triton"
        call = partial(_call_backbone, parameters.get("backbone_model", BACKBONE))
        runner = (
            TritonRunner(call, backbone.spec, choice.precision) if calls else run_folder.make_runner(choice, backbone)
        )
        labels = TaskLabels(int(parameters.get("metrics_tasks", "100")), run_folder.task_labels)
        self._recorder = Recorder(labels)
        served = Provenance(version("scoremux"), choice.name, choice.device, runner.precision, backbone.spec.digest)
        self._audit = audit = Audit.open(AuditSettings.of(parameters), served, self._recorder)
        self._in_flight = run_folder.in_flight(runner.overlap)
        self._engine = Engine(
            backbone,
            Store(Path(parameters.get("store") or repository / "store")),
            runner,
            budget_tokens=int(parameters.get("micro_batch_tokens", "0")) or BUDGET_TOKENS,
            bank_bytes=int(parameters.get("bank_bytes", "0")) or BUDGET_BYTES,
            # The audit comes first: what it refuses was not answered.
            observers=[audit, self._recorder] if audit else [self._recorder],
            in_flight=self._in_flight,
        )
        key_file = parameters.get("grant_key_file")
        self._permissions = Permissions(read_key(Path(key_file))) if key_file else None
        # The model `backbone` need not be there yet.
        if parameters.get("selftest", "short") == "short" and not calls:
            run_folder.test(self._engine)
        self._recorder.set(metrics.INFO, 1.0, *served.labels)
        self._publisher = Publisher(self._take, _Families().publish)
        pb_utils.Logger.log_info(f"scorer: {len(self._engine.bank.tasks)} tasks on {backbone.spec.source}")

    def finalize(self) -> None:
        """End what runs beside the scoring; Triton calls it before it ends the process."""
        self._publisher.close()
        if self._audit:
            self._audit.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response a request, in order. A request without a valid grant, where one is needed, is refused."""
        grants = [self._grant(request) for request in requests]
        good = [(r, grant) for r, grant in zip(requests, grants, strict=True) if not isinstance(grant, GrantError)]
        scored = iter(self._score(*map(list, zip(*good, strict=True))) if good else [])
        return [_refused(grant) if isinstance(grant, GrantError) else next(scored) for grant in grants]

    def _grant(self, request: Any) -> Grant | GrantError | None:
        if self._permissions is None:
            return None
        try:
            return self._permissions.of(request.parameters())
        except GrantError as error:
            return error
        except UnicodeDecodeError:  # a parameter that is not UTF-8: it must not fail the other requests
            return GrantError("the parameters of the request are not UTF-8")

    def _score(self, requests: list[Any], grants: list[Grant | None]) -> list[Any]:
        inputs = [[_input(request, spec.name).ravel() for spec in contract.INPUTS] for request in requests]
        texts, tasks = (np.concatenate(columns).tolist() for columns in zip(*inputs, strict=True))
        may = [grant.allows if grant else None for grant in grants]
        allowed = [one for (texts, _), one in zip(inputs, may, strict=True) for _ in texts]
        try:
            embeddings = any(contract.EMBEDDING.name in request.requested_output_names() for request in requests)
            columns = self._engine.score_columns(texts, tasks, allowed, embeddings=embeddings)
        except Exception as error:
            self._recorder.add(metrics.FAILED_BATCHES)
            if isinstance(error, AuditError):  # there may be room again soon
                return _failed(requests, str(error), pb_utils.TritonError.UNAVAILABLE)
            # The message of an unforeseen error may quote its input; its type does not.
            known = isinstance(error, EngineError)
            return _failed(requests, f"scoring failed: {error if known else type(error).__name__}")
        ends = np.cumsum([len(texts) for texts, _ in inputs]).tolist()
        parts = [slice(end - len(texts), end) for (texts, _), end in zip(inputs, ends, strict=True)]
        return [_respond(r, {n: a[part] for n, a in columns.items()}) for r, part in zip(requests, parts, strict=True)]

    def _take(self) -> Changes:
        self._recorder.set_bank(self._engine.bank.stats)
        self._recorder.set(metrics.DEADLY_ROWS, len(self._in_flight.deadly) if self._in_flight else 0)
        return self._recorder.take()


class _Families:
    """The metrics as Triton publishes them on its metrics port."""

    def __init__(self) -> None:
        family = pb_utils.MetricFamily
        kinds = {Kind.COUNTER: family.COUNTER, Kind.GAUGE: family.GAUGE, Kind.HISTOGRAM: family.HISTOGRAM}
        # A family lives as long as this process holds it.
        self._families = {m: family(name=m.name, description=m.text, kind=kinds[m.kind]) for m in metrics.ALL}
        self._shown: dict[Series, Any] = {}
        for metric in metrics.ALL:
            if not metric.labels:
                self._of((metric, ()))  # 0 is a value too

    def publish(self, changes: Changes) -> None:
        """Bring Triton's values up to date. A new stub under the same Triton adds to the counters of the one before."""
        for series, grown in changes.added.items():
            self._of(series).increment(grown)
        for series, value in changes.set.items():
            self._of(series).set(value)
        for series, value in changes.observed:
            self._of(series).observe(value)

    def _of(self, series: Series) -> Any:
        if series not in self._shown:
            metric, values = series
            labels = dict(zip(metric.labels, values, strict=True))
            buckets = {"buckets": list(metric.buckets)} if metric.buckets else {}
            self._shown[series] = self._families[metric].Metric(labels=labels, **buckets)
        return self._shown[series]


class BackboneModel:
    """The graph as a model of its own, where no other Triton backend runs it. Parameters: as for `Scorer`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph."""
        parameters = _parameters(args)
        backbone = Backbone.open(_repository(args, parameters) / "backbone" / "1")
        self._spec = backbone.spec
        self._runner = _choice(parameters).make(backbone)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response a request; requests are micro-batches already and run one after the other."""
        return [self._run(request) for request in requests]

    def _run(self, request: Any) -> Any:
        tables = Tables({name: _input(request, name) for name in self._spec.table_inputs})
        given: dict[str, Any] = {name: _input(request, name) for name in self._spec.row_inputs}
        rows = RowInputs(**given)
        wanted = request.requested_output_names()
        try:
            if names.LOGITS not in wanted:
                kept = self._runner.keys_and_values(rows, tables)
                return _respond(request, {names.kept_output(name): array for name, array in kept.items()})
            out = self._runner.run(rows, tables, pooled=names.POOLED in wanted)
            named = ((names.LOGITS, out.logits), (names.POOLED, out.pooled))
            return _respond(request, {name: array for name, array in named if array is not None})
        except Exception as error:
            return _failed([request], f"the backbone failed: {type(error).__name__}")[0]


def _parameters(args: dict[str, str]) -> dict[str, str]:
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return {name: value["string_value"] for name, value in parameters.items()}


def _repository(args: dict[str, str], parameters: dict[str, str]) -> Path:
    return Path(parameters.get("repository") or Path(args["model_repository"]).absolute().parents[1])


def _choice(parameters: dict[str, str]) -> RunnerChoice:
    return RunnerChoice(
        name=parameters.get("runner", REFERENCE.name),
        device=parameters.get("device", REFERENCE.device),
        precision=parameters.get("precision", REFERENCE.precision),
        threads=int(parameters.get("threads", "0")) or None,
        streams=int(parameters.get("streams", "0")) or None,
    )


def _call_backbone(model: str, inputs: Arrays, wanted: list[str]) -> list[Floats]:
    tensors = [pb_utils.Tensor(name, array) for name, array in inputs.items()]
    request = pb_utils.InferenceRequest(model_name=model, requested_output_names=wanted, inputs=tensors)
    response = request.exec()
    if response.has_error():
        # Clients read this message, and must not learn the model's name.
        raise RunnerError(f"the model {BACKBONE} failed: {response.error().message().replace(model, BACKBONE)}")
    return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in wanted]


def _input(request: Any, name: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _respond(request: Any, columns: Arrays) -> Any:
    wanted = set(request.requested_output_names())
    tensors = [pb_utils.Tensor(name, array) for name, array in columns.items() if name in wanted]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _refused(why: GrantError) -> Any:
    # Whoever sends such requests would fill the log.
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(why), pb_utils.TritonError.INVALID_ARG))


def _failed(requests: list[Any], message: str, code: int | None = None) -> list[Any]:
    pb_utils.Logger.log_error(message)
    error = pb_utils.TritonError(message) if code is None else pb_utils.TritonError(message, code)
    return [pb_utils.InferenceResponse(error=error) for _ in requests]
