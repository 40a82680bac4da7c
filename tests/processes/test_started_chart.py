"""A pod of the chart, started from the image as Kubernetes starts it: one network, files, probes, hooks of its end.

Instead of NVIDIA's Triton, which no image here has, it is the bundled one, which listens on loopback alone.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from charts import pod, render, server
from doors import Place
from tests.packaging.test_chart import mounted
from tests.processes.test_started_images import SCOREMUX, Image, ended, pytestmark
from waiting import until

__all__ = ["pytestmark"]
BUNDLED = ["--set=triton=bundled", "--set=metrics_address=127.0.0.1", "--set=watch_address=127.0.0.1"]


class Pod:
    """The containers of a pod's description in a network of their own; a volume is a folder."""

    def __init__(self, spec: dict[str, Any], volumes: dict[str, Path], running: ExitStack, folder: Path) -> None:
        self.volumes, self.running, self.folder = volumes, running, folder
        self.described = {one["name"]: one for one in (*spec.get("initContainers", ()), *spec["containers"])}
        self.containers: dict[str, psutil.Popen] = {}
        words = ["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep infinity"]
        pause = psutil.Popen(words)
        running.callback(pause.wait)
        running.callback(pause.kill)
        self.inside = ["nsenter", f"--net=/proc/{pause.pid}/ns/net"]
        until(lambda: Path(f"/proc/{pause.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink())
        until(lambda: "UP" in self.run("ip", "link", "show", "lo").stdout)

    def run(self, *words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in the pod's network."""
        return subprocess.run([*self.inside, *words], capture_output=True, text=True, **options)

    def start(self, name: str) -> None:
        """Start a container: its image's entry point or its command, its arguments, its mounts."""
        container = self.described[name]
        assert container["securityContext"]["readOnlyRootFilesystem"] and "env" not in container
        image = Image("scoremux", self.running, self.folder)
        image.log = self.folder / f"{name}.log"
        binds = []
        for mount in container["volumeMounts"]:
            if mount["name"] != "shared-memory":  # a tmpfs, as for every image
                path = self.volumes[mount["name"]] / mount.get("subPath", "")
                (image.root / mount["mountPath"][1:]).mkdir(parents=True, exist_ok=True)  # as every runtime does
                binds += ["--ro-bind" if mount.get("readOnly") else "--bind", str(path), mount["mountPath"]]
        words = image.words([*container.get("command", image.config["Entrypoint"]), *container.get("args", [])], *binds)
        with image.log.open("ab") as log:
            process = psutil.Popen([*self.inside, *words], stdout=log, stderr=log)
        self.containers[name] = process
        self.running.enter_context(ended(process))

    def probe(self, name: str, kind: str) -> bool:
        """Whether a probe of a container succeeds now."""
        container = self.described[name]
        probe, ports = container[kind], {one["name"]: one["containerPort"] for one in container["ports"]}
        if port := probe.get("tcpSocket"):
            return self.run("bash", "-c", f"</dev/tcp/127.0.0.1/{ports[port['port']]}").returncode == 0
        asked = f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        return self.run("curl", "-fsm", str(probe.get("timeoutSeconds", 1)), asked).returncode == 0

    def wait_for(self, name: str, kind: str) -> None:
        """Wait until a probe succeeds, as often as it may fail; a readiness probe may fail for two minutes."""
        probe = self.described[name][kind]
        for _ in range(120 if kind == "readinessProbe" else probe["failureThreshold"]):
            if self.probe(name, kind):
                return
            assert self.containers[name].poll() is None
            time.sleep(probe.get("periodSeconds", 10))
        raise AssertionError((self.folder / f"{name}.log").read_text())

    def stop(self, name: str) -> None:
        """End a container as Kubernetes does: its hook inside it, then SIGTERM to its first process."""
        (first,) = self.containers[name].children()
        if hook := self.described[name].get("lifecycle"):
            inside = ["nsenter", "--target", str(first.pid), "--pid", "--mount", "--root", "--wd=/"]
            subprocess.run([*inside, *hook["preStop"]["exec"]["command"]], check=False)
        if first.is_running():
            first.send_signal(signal.SIGTERM)
        self.containers[name].wait(90)


def test_a_pod_of_the_chart_serves_through_its_door_until_its_hooks_end_it(
    small_repository: Path, tmp_path: Path
) -> None:
    objects = render({"profile": "cpu-reference"})
    server(objects)["args"] += BUNDLED
    volumes = {name: tmp_path / name for name in ("repository", "door", "scratch")}
    shutil.copytree(small_repository, volumes["repository"])
    (volumes["scratch"] / "door").mkdir(parents=True)
    (tmp_path / "made").mkdir()
    place = Place(tmp_path / "made")
    place.port = 8443
    mounted(objects, place, volumes["door"])
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 1000, 1000)
    rows = [{"id": str(n), "task": f"t-{1 + n % 4}", "text": f"the router {n}"} for n in range(100_000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score = [SCOREMUX, "score", "rows.jsonl", "--out", "out.jsonl", "--part-rows", "500", "--url", place.url("grpcs")]
    score += ["--root-certificates", "made/ca.pem"]
    environment = {**os.environ, "SCOREMUX_TOKEN": place.everything}
    with ExitStack() as running:
        running_pod = Pod(pod(objects), volumes, running, tmp_path)
        for name in ("door", "door-reload", "server"):
            running_pod.start(name)
        running_pod.wait_for("door", "readinessProbe")
        running_pod.wait_for("server", "startupProbe")
        running_pod.wait_for("server", "readinessProbe")
        assert running_pod.probe("server", "livenessProbe")
        job = subprocess.Popen([*running_pod.inside, *score], cwd=tmp_path, env=environment)
        until(lambda: any(tmp_path.glob("*out*/**/*.parquet")) or job.poll() is not None)
        running_pod.stop("server")  # serves ten seconds more, and ends what it has
        assert running_pod.containers["server"].returncode == 0
        assert not running_pod.probe("server", "readinessProbe")
        assert job.poll() is None
        running_pod.start("server")
        assert job.wait(300) == 0
        running_pod.wait_for("server", "readinessProbe")
        for name in ("server", "door-reload", "door"):
            running_pod.stop(name)
    scored = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [(row["id"], row["status"]) for row in scored] == [(row["id"], "OK") for row in rows]
    assert [running_pod.containers[name].returncode for name in ("server", "door")] == [0, 0]
