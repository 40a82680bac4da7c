"""The images that `make images` built, started as compose.yaml says: a read-only root, user 1000, the front door."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from doors import Place, backend_of
from making import ROOT
from waiting import free_endpoints, free_port, until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "server_config/docker/compose.yaml").read_text(encoding="utf-8"))
SCOREMUX = str(Path(sys.executable).with_name("scoremux"))
LARGEST = {"scoremux": 1.2e9, "scoremux-desk": 0.5e9}
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        not (shutil.which("buildah") and shutil.which("bwrap") and os.geteuid() == 0),
        reason="needs buildah and bubblewrap (Debian's packages), as root",
    ),
]


def buildah(*words: str) -> str:
    return subprocess.run(["buildah", *words], check=True, capture_output=True, text=True).stdout.strip()


class Image:
    """An image's files and configuration, and programs in it. The test skips where it was not built."""

    def __init__(self, name: str, running: ExitStack, folder: Path) -> None:
        if f"localhost/{name}:latest" not in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
            pytest.skip(f"there is no image {name}: make images")
        container = buildah("from", "--pull-never", f"localhost/{name}:latest")
        running.callback(buildah, "rm", container)
        self.root, self.log = Path(buildah("mount", container)), folder / "log"
        self.config = json.loads(buildah("inspect", container))["Docker"]["config"]
        self.running, self.service = running, COMPOSE["services"]

    def words(self, words: list[str], *binds: str) -> list[str]:
        """Return a command that runs `words` in the image: its root read-only, as its user, with its variables."""
        assert self.config["User"] == "1000"
        variables = [word for line in self.config["Env"] for word in ("--setenv", *line.split("=", 1))]
        writable = ["--tmpfs", "/tmp", "--chmod", "1777", "/tmp", "--dev", "/dev", "--chmod", "1777", "/dev/shm"]
        start = ["bwrap", "--ro-bind", str(self.root), "/", *writable, "--proc", "/proc", *binds, "--clearenv"]
        rights = [
            "--unshare-pid",
            "--as-pid-1",
            "--die-with-parent",
            "--cap-add",
            "CAP_SETUID",
            "--cap-add",
            "CAP_SETGID",
        ]
        as_user = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"]
        return [*start, *variables, *rights, "--", *as_user, *words]

    def start(self, words: list[str], *binds: str) -> psutil.Popen:
        """Start the image's entry point; at the end its first process gets SIGTERM."""
        reading, writing = os.pipe()
        os.fchown(writing, 1000, 1000)  # as docker does: /dev/stderr is opened by its name
        with self.log.open("ab") as log, os.fdopen(reading) as output, os.fdopen(writing, "w") as error:
            subprocess.Popen(["cat"], stdin=output, stdout=log)
            command = self.words([*self.config["Entrypoint"], *words], *binds)
            process = psutil.Popen(command, stdout=error, stderr=error)
        self.running.enter_context(ended(process))
        return process

    def is_healthy(self, port: int, instead_of: str) -> bool:
        """Whether the image's own health check holds, at another port."""
        check = [word.replace(f":{instead_of}/", f":{port}/") for word in self.config["Healthcheck"]["Test"][1:]]
        return subprocess.run(self.words(check), capture_output=True).returncode == 0

    def check_contents(self) -> None:
        """Check labels, the list of packages and the size."""
        labels = {name.rpartition(".")[2]: value for name, value in self.config["Labels"].items()}
        assert labels["version"] and len(labels["revision"]) == 40
        listed = json.loads((self.root / "opt/scoremux/sbom.cdx.json").read_text())["components"]
        assert {"scoremux", "numpy"} <= {component["name"] for component in listed}
        size = subprocess.run(["du", "-sxb", self.root], capture_output=True, text=True, check=True).stdout
        assert int(size.split()[0]) <= LARGEST[labels["title"]]


@contextmanager
def ended(process: psutil.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        for first in process.children() if process.poll() is None else ():
            first.terminate()
        process.wait(75)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_job_through_the_door_loses_no_row_when_its_server_is_stopped_and_killed(
    small_repository: Path, tmp_path: Path
) -> None:
    ports = free_endpoints()
    repository, folder = shutil.copytree(small_repository, tmp_path / "repo"), tmp_path / "door"
    folder.mkdir()
    place = Place(folder, [backend_of(ports)])
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 1000, 1000)
    binds = ("--ro-bind", str(repository), "/repository", "--ro-bind", str(folder), "/door")
    rows = [{"id": str(n), "task": f"t-{1 + n % 4}", "text": f"the router {n}"} for n in range(20_000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = [f"--set={name}_port={getattr(ports, name)}" for name in ("grpc", "http", "metrics", "watch")]
    with ExitStack() as running:
        image = Image("scoremux", running, tmp_path)
        image.check_contents()
        serve = [*image.service["serve"]["command"], *own]

        def healthy() -> bool:
            return image.is_healthy(ports.watch, "8003")

        server = image.start(serve, *binds)
        until(healthy, server, image.log.read_text)
        image.start(image.service["door"]["command"], *binds)
        score = "score rows.jsonl --out out.jsonl --part-rows 500 --root-certificates door/ca.pem".split()  # noqa: SIM905
        job = subprocess.Popen(
            [SCOREMUX, *score, "--url", place.url("grpcs")],
            cwd=tmp_path, env={**os.environ, "SCOREMUX_TOKEN": place.everything},
        )  # fmt: skip
        until(lambda: any(tmp_path.glob("*out*/**/*.parquet")) or job.poll() is not None)
        for number in (signal.SIGTERM, signal.SIGKILL):
            until(healthy, server, image.log.read_text)
            server.children()[0].send_signal(number)  # to the first process; with its end the container's others end
            server.wait(75)
            until(lambda: not answers(ports.grpc))
            assert job.poll() is None
            server = image.start(serve, *binds)  # restart: always
        assert job.wait(240) == 0
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scored] == [row["id"] for row in rows]
    assert {row["status"] for row in scored} == {"OK"}
    assert image.log.read_text().count("\nstopped") == 2  # after SIGTERM, and at the end


def test_the_desk_opens_without_rights_and_keeps_its_database(tmp_path: Path) -> None:
    os.chown(tmp_path, 1000, 1000)
    with ExitStack() as running:
        image, port = Image("scoremux-desk", running, tmp_path), free_port()
        image.check_contents()
        command = [*image.service["desk"]["command"], f"--port={port}"]
        process = image.start(command, "--bind", str(tmp_path), "/desk")
        until(lambda: image.is_healthy(port, "8080"), process, image.log.read_text)
    assert process.returncode in (0, 143)  # uvicorn ends by the signal that stopped it
    assert (tmp_path / "reviews.db").stat().st_uid == 1000
