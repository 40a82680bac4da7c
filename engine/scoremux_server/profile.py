"""A profile: the runner and its precision, addresses, records, and how long a server starts and stops."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from scoremux_engine.runners.choose import PROFILE, RunnerChoice
from scoremux_files.settings import check, read_toml
from scoremux_server.errors import SetupError

LOOPBACK = "127.0.0.1"
_NUMBERS = ("bank_bytes", "micro_batch_tokens", "queue_rows", "queue_bytes", "metrics_tasks", "audit_rotate_bytes")
_FILES = ("audit_log", "audit_key_file")
"""Keys that the scorer takes too."""
ON_CPU, ON_GPU = ("float32", "bfloat16", "int8"), ("float32", "tf32", "float16", "bfloat16")
"""Precisions of the runner openvino, and of onnxruntime on a GPU."""
DEFAULT = "cpu"

Seconds = Annotated[float, Field(le=86_400, allow_inf_nan=False)]
"""A day at most: the kernel's timers take no infinite number."""


class Profile(BaseModel, extra="forbid", frozen=True):
    """Every key of a profile; the descriptions are the documentation in engine/README.md."""

    runner: Literal["openvino", "onnxruntime", "triton"] = Field(
        default="openvino",
        description="What computes: `openvino` or `onnxruntime` inside the scorer, or `triton`: the model `backbone` "
        "beside it, served by `backend`.",
    )
    backend: Literal["none", "onnxruntime", "tensorrt", "python"] = Field(
        default="none",
        description="With runner `triton`: the Triton backend that serves the model `backbone`; `tensorrt`: as a plan "
        "of `scoremux export plan`.",
    )
    device: Literal["cpu", "cuda", "tensorrt"] = Field(
        default="cpu",
        description="With runner `onnxruntime`: its execution provider. On `cuda`, the adapters of resident tasks stay "
        "in the GPU's memory. `cuda` and `tensorrt` were never run on a GPU.",
    )
    precision: Literal["float32", "tf32", "float16", "bfloat16", "int8"] = Field(
        default="float32",
        description="With runner `openvino`: `float32` needs AVX2, `bfloat16` instructions for bfloat16, `int8` "
        "AVX-512 or VNNI; one that this processor has no kernels for is refused. `onnxruntime` computes in "
        "float32 on the CPU; on `cuda` also in `tf32` (inputs of products rounded to 11 bits), and in `float16` and "
        "`bfloat16`, whose graphs `scoremux export reduced` writes. A plan has the precision that it was built in.",
    )
    threads: int = Field(
        default=0, ge=0, description="Threads of the runner, or of Triton's own ONNX Runtime backend; 0: all cores."
    )
    streams: int = Field(
        default=0,
        ge=0,
        description="Micro-batches computed at once, each by `threads` / `streams` threads; 0: one a thread, which is "
        "the fastest for many rows. With runner `openvino` a row that comes alone has all threads, where that changes "
        "no bit.",
    )
    bank_bytes: int = Field(default=0, ge=0, description="Most bytes of resident adapters; 0: the engine's default.")
    micro_batch_tokens: int = Field(
        default=0, ge=0, description="Most padded tokens of a micro-batch; 0: the engine's default, 2048."
    )
    queue_rows: int = Field(
        default=0, ge=0, description="Most rows that wait; beyond them requests are refused; 0: 16,384."
    )
    queue_bytes: int = Field(default=0, ge=0, description="Most bytes of text that wait; 0: 64 MiB.")
    selftest: Literal["short", "off"] = Field(
        default="short",
        description="Before the first row, `short` scores random mixes of the store's tasks for a second and refuses "
        "to serve if a bit changes; `off` skips that. None with runner `triton`, and on a GPU.",
    )
    uncalibrated: Literal["human", "machine"] = Field(
        default="human",
        description="Who decides about responses to tasks without a calibration: people (`ROUTE` is "
        "`human:UNCALIBRATED`), or the machine. Tasks whose adapter learned fewer than 30 labelled responses always "
        "go to people (`human:NEW_TASK`).",
    )
    triton: str = Field(
        default="bundled",
        min_length=1,
        description="`bundled` (the tritonserver of the PyTriton wheel) or the folder of a Triton, such as "
        "`/opt/tritonserver` in NVIDIA's container.",
    )
    metrics_tasks: int = Field(
        default=100, ge=0, description="Tasks with a label of their own in metrics; the rest count as `_other`."
    )
    audit_log: str = Field(
        default="", description="File that gets a line for every row that is answered; empty: no audit log."
    )
    audit_rotate_bytes: int = Field(
        default=256 << 20, ge=1 << 16, description="Size in bytes at which the audit log begins a new file."
    )
    audit_key_file: str = Field(
        default="", description="File with a key of 16 bytes at least: the audit log's digests become HMAC-SHA-256."
    )
    grant_key_file: str = Field(
        default="",
        description="File with the key of the front door's grants (`grant_key` in door.toml): requests then need a "
        "grant that is signed with it.",
    )
    address: str = Field(
        default=LOOPBACK,
        min_length=1,
        pattern=r"^[0-9A-Za-z.:-]+$",
        description="Where Triton listens. The bundled one takes loopback only; for more it must be 26.07 or newer.",
    )
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="Triton's gRPC port; 0: any free one.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="Triton's HTTP port; 0: any free one.")
    metrics_port: int = Field(default=8002, ge=0, le=65535, description="Triton's Prometheus port; 0: any free one.")
    metrics_address: str = Field(
        default="",
        pattern=r"^[0-9A-Za-z.:-]*$",
        description="Where Triton's metrics listen, under the same rule as `address`; empty: there too.",
    )
    watch_address: str = Field(
        default=LOOPBACK,
        min_length=1,
        pattern=r"^[0-9A-Za-z.:-]+$",
        description="Where the watcher offers `/healthz`, `/readyz` and `/metrics`.",
    )
    watch_port: int = Field(default=8003, ge=0, le=65535, description="The watcher's HTTP port; 0: any free one.")
    start_timeout_s: Seconds = Field(
        default=120.0, gt=0, description="Seconds until a started Triton must have scored its canary."
    )
    drain_s: int = Field(default=60, ge=1, description="Seconds that rows in flight have to finish, at a stop.")

    @model_validator(mode="after")
    def _fits_together(self) -> "Profile":
        if (self.runner == "triton") != (self.backend != "none"):
            raise ValueError("runner 'triton' and a backend other than 'none' go together")
        if self.runner == "onnxruntime" and self.device == "cuda":
            if self.precision not in ON_GPU:
                raise ValueError(f"on a GPU the runner onnxruntime computes in {', '.join(ON_GPU)}")
        elif self.runner != "openvino" and self.precision != "float32":
            raise ValueError(f"the runner {self.runner} computes in float32, not {self.precision}")
        if self.runner == "openvino" and self.precision not in ON_CPU:
            raise ValueError(f"the runner openvino computes in {', '.join(ON_CPU)}")
        if self.runner == "openvino" and self.device != "cpu":
            raise ValueError(f"the runner openvino computes on the cpu, not on {self.device}")
        if self.audit_key_file and not self.audit_log:
            raise ValueError("audit_key_file is of no use without audit_log")
        return self

    @field_validator("address", "watch_address", "metrics_address")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value)) if value else ""
        except ValueError as error:
            raise ValueError(f"{value!r} is not an IP address, such as 127.0.0.1, ::1 or 0.0.0.0") from error

    @property
    def equal_bits(self) -> bool:
        """Whether equal bits are promised: neither on a GPU nor by Triton's own backends."""
        return self.device == "cpu" and self.backend in ("none", "python")

    @property
    def choice(self) -> RunnerChoice:
        """The runner in the Python backend, inside the scorer or (backend `python`) inside the model `backbone`."""
        name = "onnxruntime" if self.runner == "triton" else self.runner
        return RunnerChoice(name, self.device, self.precision, self.threads or None, self.streams or None)

    @property
    def scorer_parameters(self) -> dict[str, str]:
        """The scorer's parameters beside the runner's; paths are made absolute."""
        texts = {key: str(getattr(self, key)) for key in (*_NUMBERS, "selftest", "uncalibrated", *_FILES)}
        return texts | {key: str(Path(texts[key]).resolve()) for key in _FILES if texts[key]}

    @classmethod
    def read(cls, name: str = DEFAULT, settings: Sequence[str] = ()) -> "Profile":
        """Return a profile of scoremux, or of a TOML file, changed by `key=value` settings. Raises SetupError."""
        path = Path(name) if name.endswith(".toml") else configuration("profiles") / f"{name}.toml"
        if not path.exists():
            raise SetupError(f"unknown profile {name}; there are {', '.join(names())}, or FILE.toml")
        values = read_toml(path, SetupError)
        check(cls, values, str(path), SetupError)
        for setting in settings:
            key, sign, value = setting.partition("=")
            if not sign:
                raise SetupError(f"--set wants key=value, not {setting!r}")
            values[key.strip()] = value.strip()
        return check(cls, values, f"profile {name}", SetupError)


def default_profile(repository: Path) -> str:
    """Return the profile of a repository if none is given: its own `profile.toml`, else `DEFAULT`."""
    file = repository / PROFILE
    return str(file) if file.is_file() else DEFAULT


def configuration(name: str) -> Path:
    """Return a folder of `server_config` or a file of `examples`: inside the package, or in a checkout.

    Raises SetupError.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent, here.parents[2] / "server_config", here.parents[2] / "examples"):
        if (folder / name).exists():
            return folder / name
    raise SetupError(f"the {name} of scoremux are missing; install it again")


def names() -> list[str]:
    """Return the names of the profiles that come with scoremux."""
    return sorted(path.stem for path in configuration("profiles").glob("*.toml"))
