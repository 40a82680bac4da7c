"""The models inside Triton's Python backend, `scorer` and `backbone`: the one file that knows Triton's Python API."""

import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from scoremux_client import contract
from scoremux_engine.backend import metrics
from scoremux_engine.backend.audit import Audit
from scoremux_engine.backend.metrics import Changes, Families, FirstLabels, Publisher, Recorder
from scoremux_engine.backend.models import ARITHMETIC, BACKBONE, stops_by
from scoremux_engine.backend.parameters import Parameters
from scoremux_engine.backend.room import Room, read_terms
from scoremux_engine.bank.bank import BUDGET_BYTES
from scoremux_engine.engine import BUDGET_TOKENS, Engine
from scoremux_engine.errors import AuditError, DroppedError, EngineError, GrantError, RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.expected import check
from scoremux_engine.runners.runner import BackboneRunner, Floats, RowInputs, TritonRunner
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.observer import Columns
from scoremux_engine.scoring.outcomes import TaskLists, nothing_on_request
from scoremux_engine.scoring.permission import WATCHER, Grant, Permissions, read_key
from scoremux_engine.scoring.row_plan import RowTexts
from scoremux_engine.scoring.row_request import ANY_TERMS, EVERYBODY, Arrival, Tenant
from scoremux_engine.selftest import pass_selftest
from scoremux_engine.store.store import Store
from scoremux_files.atomic import replace_file

Arrays = dict[str, npt.NDArray[Any]]

TRITON = "triton"
"""The runner that calls another model of this Triton."""

_ADMISSION_THREADS = 2

_ALL_OUTPUTS = {spec.name for spec in (*contract.OUTPUTS, *contract.ON_REQUEST)}

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread that wants Python's lock waits for one that computes. A batch's thread gives it up for each file
that it reads, and would wait 5 ms each time while the bank's thread describes or loads a large store."""


class Scorer:
    """Scores the rows of all requests that Triton hands over; each is answered when its last row is done."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the engine. An error here is what Triton reports as the reason why the model did not load."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        parameters = Parameters.of(args)
        self._run_folder = folder = parameters.run_folder
        backbone = Backbone.open(parameters.repository / "backbone" / "1")
        runner = _runner(parameters, backbone)
        self._recorder = Recorder(FirstLabels(parameters.metrics_tasks))
        kind = parameters.choice.name, parameters.choice.device, runner.precision
        served = Provenance(version("scoremux"), *kind, backbone.spec.digest, runner.arithmetic)
        log, rotate_bytes, key_file = parameters.audit_log, parameters.audit_rotate_bytes, parameters.audit_key_file
        self._audit = audit = Audit(log, served, self._recorder, rotate_bytes, key_file) if log else None
        self._in_flight = InFlight(folder, runner.overlap + runner.express) if folder else None
        self._engine = Engine(
            backbone,
            Store(parameters.store),
            runner,
            budget_tokens=parameters.micro_batch_tokens or BUDGET_TOKENS,
            bank_bytes=parameters.bank_bytes or BUDGET_BYTES,
            # The audit comes first: what it refuses was not answered.
            observers=[audit, self._recorder] if audit else [self._recorder],
            in_flight=self._in_flight,
            uncalibrated=parameters.uncalibrated,
        )
        self._permissions = Permissions(read_key(parameters.grant_key_file)) if parameters.grant_key_file else None
        self._room = Room(parameters.queue_rows, parameters.queue_bytes)
        # The model `backbone` need not be there yet.
        # On a GPU no bits are promised.
        choice = parameters.choice
        if parameters.selftest == "short" and choice.name != TRITON and choice.device == "cpu":
            pass_selftest(self._engine, folder)
        if audit:
            audit.note("start", check=self._engine.checked, profile=parameters.model_dump(mode="json"))
        self._lists = TaskLists()
        self._admission = ThreadPoolExecutor(_ADMISSION_THREADS, "admission")
        self._recorder.set(metrics.INFO, 1.0, *astuple(served))
        if folder:
            replace_file(folder / ARITHMETIC, [runner.arithmetic.encode()])
        pb_utils.Logger.log_info(f"scorer: {len(self._engine.bank.tasks)} tasks on {backbone.spec.source}")
        # Last, so that no other thread sends metrics while this one logs.
        self._publisher = Publisher(self._take, Families(pb_utils.MetricFamily).publish)

    def finalize(self) -> None:
        """End what runs beside the scoring; Triton calls it when all requests are answered."""
        self._engine.queue.drop_all("stopped", "the server stops")
        self._admission.shutdown()
        self._publisher.close()
        if self._audit:
            self._audit.close()

    def execute(self, requests: list[Any]) -> None:
        """Take requests over. Each is answered later, from another thread, or at once if it is refused."""
        for request in map(HeldRequest, requests):
            self._try(self._accept, request)

    def _try(self, step: Callable[..., None], request: "HeldRequest", *values: Grant | None) -> None:
        """Take a step with a request, and refuse the request where that fails."""
        try:
            step(request, *values)
        except Exception as error:
            if isinstance(error, DroppedError):
                self._engine.queue.count_dropped(request.rows, error.reason)
            self._refuse(request, error)

    def _accept(self, request: "HeldRequest") -> None:
        grant = self._permissions.of(request.parameters) if self._permissions else None
        request.read(Tenant(grant.name, grant.weight) if grant else EVERYBODY)
        if request.lists_tasks:
            self._admission.submit(self._try, self._list_tasks, request, grant)  # a long list takes half a second
            return
        self._room.enter(request)
        if self._engine.takes_at_once(request.texts):
            self._submit(request, grant)
        else:
            self._admission.submit(self._try, self._admit, request, grant)

    def _admit(self, request: "HeldRequest", grant: Grant | None) -> None:
        if request.is_cancelled():  # Triton knew nothing of it when it handed the request over
            self._engine.queue.count_dropped(request.rows, "cancelled")
            self._answer(request, DroppedError("cancelled", "the request was cancelled"))
        else:
            self._submit(request, grant)

    def _list_tasks(self, request: "HeldRequest", grant: Grant | None) -> None:
        request.more = self._lists.columns(self._engine.bank.described(), request.rows, grant)
        if request.scores:
            self._room.enter(request)
            self._admit(request, grant)
        else:
            request.answer({})

    def _submit(self, request: "HeldRequest", grant: Grant | None) -> None:
        try:
            rows = RowTexts(request.texts, request.tasks, grant.allows if grant else None)
        except EngineError as error:  # answered, so that it leaves the room
            self._answer(request, error)
            return
        self._engine.submit(Arrival(rows, request.terms, request.embeddings, partial(self._answer, request)))

    def _answer(self, request: "HeldRequest", outcome: Columns | Exception) -> None:
        try:
            if isinstance(outcome, Exception):
                self._refuse(request, outcome)
            else:
                request.answer(outcome)
        finally:
            self._room.leave(request)

    def _refuse(self, request: "HeldRequest", error: Exception) -> None:
        code = pb_utils.TritonError
        if isinstance(error, GrantError):  # not logged: a client could fill the log with them
            request.fail(str(error), code.INVALID_ARG)
        elif isinstance(error, DroppedError):
            request.fail(str(error), code.CANCELLED if error.reason == "cancelled" else code.UNAVAILABLE)
        else:
            self._recorder.add(metrics.FAILED_BATCHES)
            # The message of an unforeseen error may quote its input; its type does not.
            why = str(error) if isinstance(error, EngineError) else type(error).__name__
            message = why if isinstance(error, AuditError) else f"scoring failed: {why}"
            pb_utils.Logger.log_error(message)
            # The audit log may have room again soon.
            request.fail(message, code.UNAVAILABLE if isinstance(error, AuditError) else code.INTERNAL)

    def _take(self) -> Changes:
        self._recorder.set_bank(self._engine.bank.stats)
        self._recorder.set(metrics.DEADLY_ROWS, len(self._in_flight.deadly) if self._in_flight else 0)
        self._recorder.set_queue(self._engine.queue.stats, self._room.rows)
        if self._run_folder and time.time() >= stops_by(self._run_folder):
            self._engine.queue.drop_all("stopped", "the server stops")
        return self._recorder.take()


class HeldRequest:
    """One request of Triton's that is kept until it is answered."""

    def __init__(self, request: Any) -> None:
        self._request: Any = request
        self._sender = request.get_response_sender()
        self.is_cancelled = self._sender.is_cancelled
        self.rows = int(pb_utils.get_input_tensor_by_name(request, contract.TEXT.name).shape()[0])
        self.texts, self.tasks = list[bytes](), list[bytes]()
        self.size_bytes = 0
        self.embeddings = self.lists_tasks = self.scores = False
        self.more: Columns = {}
        self.terms = ANY_TERMS

    @property
    def parameters(self) -> str:
        """The parameters and forwarded headers, a JSON object. Raises GrantError where they are not UTF-8."""
        try:
            return str(self._request.parameters())
        except UnicodeDecodeError as error:
            raise GrantError("the parameters of the request are not UTF-8") from error

    def read(self, tenant: Tenant) -> None:
        """Read the rows of a tenant, and give the request's shared memory back to Triton."""
        self.texts, self.tasks = (_input(self._request, spec.name).ravel().tolist() for spec in contract.INPUTS)
        self.size_bytes = sum(map(len, self.texts))
        self._outputs = set(self._request.requested_output_names())
        if self._outputs == _ALL_OUTPUTS:  # of a request that names none, too
            self.more = nothing_on_request(self.rows)
        self.embeddings = contract.EMBEDDING.name in self._outputs and not self.more
        self.lists_tasks = contract.TASKS.name in self._outputs and not self.more
        self.scores = self._outputs != {contract.TASKS.name}
        with suppress(GrantError):  # where no grant is needed, any parameters will do
            self.terms = read_terms(self.parameters)
            if tenant is EVERYBODY and WATCHER in self.parameters:
                tenant = Tenant(WATCHER)
        self.terms = replace(self.terms, is_cancelled=self.is_cancelled, tenant=tenant)
        self._request = None

    def answer(self, columns: Columns) -> None:
        """Send the tensors that the request asks for, `more` among them."""
        self._send(_response({**columns, **self.more}, self._outputs))

    def fail(self, message: str, code: int) -> None:
        self._send(pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code)))

    def _send(self, response: Any) -> None:
        try:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception as error:  # other requests must not suffer from it
            pb_utils.Logger.log_error(f"a response cannot be sent: {type(error).__name__}")


class BackboneModel:
    """The graph as a model of its own, where no other Triton backend runs it."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = Parameters.of(args)
        backbone = Backbone.open(parameters.repository / "backbone" / "1")
        self._spec = backbone.spec
        self._runner = parameters.choice.make(backbone)
        check(backbone, self._runner)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response a request; requests are micro-batches already and run one after the other."""
        return [self._run(request) for request in requests]

    def _run(self, request: Any) -> Any:
        tables = Tables({name: _input(request, name) for name in self._spec.table_inputs})
        tensors: dict[str, Any] = {name: _input(request, name) for name in self._spec.row_inputs}
        rows, outputs = RowInputs(**tensors), request.requested_output_names()
        try:
            if names.LOGITS not in outputs:
                keys_and_values = self._runner.keys_and_values(rows, tables)
                return _response({names.kept_output(name): array for name, array in keys_and_values.items()}, outputs)
            out = self._runner.run(rows, tables, pooled=names.POOLED in outputs)
            pooled = {} if out.pooled is None else {names.POOLED: out.pooled}
            return _response({names.LOGITS: out.logits, **pooled}, outputs)
        except Exception as error:
            message = f"the backbone failed: {type(error).__name__}"
            pb_utils.Logger.log_error(message)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message))


def _runner(parameters: Parameters, backbone: Backbone) -> BackboneRunner:
    if parameters.choice.name != TRITON:
        return parameters.choice.make(backbone)
    call = partial(_call_backbone, parameters.backbone_model)
    return TritonRunner(call, backbone.spec, parameters.choice.precision, parameters.arithmetic, parameters.groups)


def _call_backbone(model: str, inputs: Arrays, names_out: list[str]) -> list[Floats]:
    tensors = [pb_utils.Tensor(name, array) for name, array in inputs.items()]
    # Else Triton leaves outputs where the model made them, and numpy cannot read the memory of a GPU.
    on_cpu = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
    request = pb_utils.InferenceRequest(
        model_name=model, requested_output_names=names_out, inputs=tensors, preferred_memory=on_cpu
    )
    response = request.exec()
    if response.has_error():
        # Clients read this message, and must not learn the model's name.
        raise RunnerError(f"the model {BACKBONE} failed: {response.error().message().replace(model, BACKBONE)}")
    return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in names_out]


def _input(request: Any, name: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _response(columns: Arrays, outputs: Collection[str]) -> Any:
    tensors = [pb_utils.Tensor(name, array) for name, array in columns.items() if name in outputs]
    return pb_utils.InferenceResponse(output_tensors=tensors)
