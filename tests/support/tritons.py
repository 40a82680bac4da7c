"""A real tritonserver with a scorer of a few lines: it dies of some texts, and nobody heals it but the test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import tritonclient.grpc as triton

from making import ROOT
from scoremux_server.triton import processes
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.installation import Installation
from waiting import free_endpoints

DEADLY = "a text that kills"
DEADLY_TO_ALL = "a text that kills Triton too"
MODEL = f'''
import os
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Level: the text, a number. Batches take a little while, so that something is under way when a test strikes."""

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(r, "TEXT").as_numpy()[:, 0]) for r in requests]

    def answer(self, texts):
        import time
        time.sleep(0.002 * len(texts))
        if {DEADLY_TO_ALL.encode()!r} in texts:
            os.kill(os.getppid(), 9)
        if {DEADLY.encode()!r} in texts:
            os._exit(1)
        rows = (len(texts), 1)
        level = np.array([int(t or 0) for t in texts], np.int32).reshape(rows)
        columns = {{
            "STATUS": np.full(rows, b"OK", np.object_), "LEVEL": level, "SCORE": level.astype(np.float32),
            "PROBABILITIES": np.zeros(rows, np.float32), "VERSION": np.full(rows, b"a" * 64, np.object_),
            "TOKENS": np.ones(rows, np.int32), "TRUNCATED": np.zeros(rows, np.bool_),
            "CONFIDENCE": np.full(rows, -1, np.float32), "CONDITION": np.full(rows, b"", np.object_),
            "ROUTE": np.full(rows, b"machine", np.object_),
            "LEVEL_RANGE": np.full((len(texts), 2), -1, np.int32),
            "ARITHMETIC": np.full(rows, b"", np.object_),
        }}
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, a) for n, a in columns.items()])
'''


class MortalTriton:
    """A context manager: Triton on 127.0.0.1 in a process group of its own."""

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        self.endpoints = endpoints or free_endpoints()
        self.deaths = 0
        self.ready = True
        self._prefix = f"mortal_{os.getpid()}_{self.endpoints.grpc}_"

    def __enter__(self) -> MortalTriton:
        self._folder = Path(tempfile.mkdtemp(prefix="scoremux-test-"))
        model = self._folder / "models" / "scorer"
        (model / "1").mkdir(parents=True)
        (model / "1" / "model.py").write_text(MODEL)
        shutil.copy(ROOT / "model_repository" / "scorer" / "config.pbtxt", model / "config.pbtxt")
        self._triton = Installation.find()
        self._triton.backends(self._folder / "backends")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def kill(self) -> None:
        """kill -9 the server and its stub."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for region in Path("/dev/shm").glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)

    def kill_stub(self) -> None:
        """kill -9 the stub alone."""
        for stub in self._stubs():
            os.kill(stub, signal.SIGKILL)

    def heal(self, stop: threading.Event) -> None:
        """Load the model again whenever its stub is gone, until `stop`; where that fails, start Triton again."""
        admin = triton.InferenceServerClient(self.endpoints.grpc_url)
        while not stop.wait(0.05):
            if not self._stubs():
                self.deaths += 1
                try:
                    admin.unload_model("scorer")
                    # Unloading is done in the background, and a load that comes before its end is a load of nothing.
                    while admin.is_model_ready("scorer"):
                        time.sleep(0.02)
                    admin.load_model("scorer", client_timeout=60)
                except triton.InferenceServerException:  # it gave up a stub that got no processor for a second
                    self.kill()
                    self.start()
        admin.close()

    def _stubs(self) -> list[int]:
        with suppress(OSError):
            return [*processes.stubs(self._process.pid)]
        return []

    def start(self) -> None:
        """Start, up to three times: Triton gives up a stub that gets no processor for a second while it loads."""
        ports = self.endpoints
        arguments = [
            str(self._triton.program),
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--model-control-mode=explicit",
            "--load-model=scorer",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={ports.grpc}",
            "--http-address=127.0.0.1",
            f"--http-port={ports.http}",
            "--allow-metrics=false",
            "--allow-gpu-metrics=false",
        ]
        with triton.InferenceServerClient(ports.grpc_url) as admin:
            for _ in range(3):
                with (self._folder / "log").open("wb") as log:
                    self._process = subprocess.Popen(
                        arguments,
                        env=self._triton.environment(os.environ),
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                deadline = time.monotonic() + 80
                while self._process.poll() is None and time.monotonic() < deadline:
                    with suppress(triton.InferenceServerException):
                        if admin.is_model_ready("scorer"):
                            return
                    time.sleep(0.05)
                self.kill()
        raise AssertionError(self.log)
