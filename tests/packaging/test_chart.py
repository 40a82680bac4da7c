"""The Helm chart, rendered by Helm itself and validated with Kubernetes' own schemas: pods, front door, monitoring."""

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from charts import CASES, FOLDER, Objects, lint, pod, render, schema_error, server, yaml
from doors import Place, backend_of, needs_haproxy
from scoremux_client import Response, ScoringClient
from scoremux_server.profile import Profile
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.server import TritonServer
from serving import SCOREMUX, code
from waiting import free_endpoints, until

schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the chart takes, and the newest with schemas."""


@pytest.fixture(params=CASES)
def objects(request: pytest.FixtureRequest) -> Objects:
    return render(CASES[request.param])


def test_lint_finds_nothing() -> None:
    report = lint()
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_object(objects: Objects, version: str) -> None:
    checked = {
        kind: schemas.validate(one, version, strict=True)
        for (kind, _), one in objects.items()
        if kind != "ServiceMonitor"  # the Prometheus operator's own kind, which has no schema there
    }
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= set(checked)
    assert all(str(found).startswith(version) for found in checked.values())


def test_every_pod_passes_the_policy_restricted(objects: Objects) -> None:
    """See https://kubernetes.io/docs/concepts/security/pod-security-standards/, level restricted."""
    volumes = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    writer = yaml.safe_load((FOLDER / "writer.yaml").read_text(encoding="utf-8"))["spec"]
    for spec in (writer, pod(objects)):
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(set(volume) - {"name"} <= volumes for volume in spec["volumes"])
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert spec is writer or container["securityContext"]["readOnlyRootFilesystem"] is True
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_the_servers_profile_is_one(objects: Objects, small_repository: Path, tmp_path: Path) -> None:
    words = [word.partition("=") for word in server(objects)["args"]]
    name = next(value for option, _, value in words if option == "--profile")
    settings = [value for option, _, value in words if option == "--set"]
    # The Triton at hand is the bundled one, which accepts loopback addresses only and has no other backends.
    settings += ["triton=bundled", "address=127.0.0.1", "metrics_address=127.0.0.1"]
    settings += ["backend=python"] if name == "gpu-onnx" else []
    profile = Profile.read("cpu" if name.endswith(".toml") else name, settings)
    started = TritonServer(small_repository, Endpoints(8001, 8000, 8002), profile=profile)
    assert "--grpc-port=8001" in started.command(tmp_path, "KEY")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_accepts_the_adapters_query(tmp_path: Path) -> None:
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    query = (
        rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="n",pod=~"a|b"').replace("<<.GroupBy>>", "pod")
    )
    assert "<<" not in query
    rules = {"groups": [{"name": "g", "rules": [{"record": "r", "expr": query}]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    checked = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 3}, "replica"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"door": {"connectionsPerAddress": 51}}, "connectionsPerAddress"),
        ({"set": ["threads"]}, "set"),
        ({"store": {"size": "lots"}}, "size"),
        ({"networkPolicy": {"clients": []}}, "clients"),
        ({"networkPolicy": {"clients": [{}]}}, "clients"),
        ({"door": {"tlsSecret": ""}}, "tlsSecret"),
        ({"autoscaling": {"maxReplicas": "many"}}, "maxReplicas"),
        ({"serviceMonitorLabels": {"release": 1}}, "serviceMonitorLabels"),
        ({"pod": {"containers": []}}, "containers"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    assert named in schema_error(values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"autoscaling": {"minReplicas": 9}}, r"minReplicas is 9, more than autoscaling\.maxReplicas, which is 8"),
        ({"set": ["watch_port=1"]}, "set has watch_port=1, but the chart sets watch_port itself"),
        ({"set": ["triton=bundled"]}, "set has triton=bundled, but the chart sets triton itself"),
        ({"set": ["audit_log=/tmp/log"]}, "set has audit_log=/tmp/log, but the chart has no volume for an audit log"),
    ],
)
def test_values_that_would_not_work_are_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        render(values)


FILES = {
    "tls.crt": "door.pem",
    "tls.key": "door.key",
    "tokens.json": "tokens.json",
    "grant.key": "grant.key",
    "ca.crt": "ca.pem",
}
"""Keys of the secrets, and the files of a test's door with the same content."""


def sources(objects: Objects) -> dict[str, dict[str, str]]:
    """Return the secrets in the door's volume: name → key → file."""
    (volume,) = (one["projected"] for one in pod(objects)["volumes"] if one["name"] == "door")
    assert volume["defaultMode"] == 0o440
    secrets = (source["secret"] for source in volume["sources"] if "secret" in source)
    return {secret["name"]: {item["key"]: item["path"] for item in secret["items"]} for secret in secrets}


def mounted(objects: Objects, place: Place, folder: Path) -> Path:
    """Write the door's volume as Kubernetes does, on an address and a port of the test; return its door.toml."""
    folder.mkdir()
    for items in sources(objects).values():
        for key, path in items.items():
            shutil.copyfile(place.folder / FILES[key], folder / path)
    text = objects["ConfigMap", "essay-door"]["data"]["door.toml"]
    assert 'address = "0.0.0.0"' in text and "port = 8443\n" in text
    (folder / "door.toml").write_text(text.replace("0.0.0.0", "127.0.0.1").replace("8443", str(place.port)))
    return folder / "door.toml"


@needs_haproxy
@pytest.mark.parametrize("authority", ["", "authorities"])
def test_haproxy_accepts_it_and_asks_for_certificates_if_told_to(authority: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.file = mounted(render({"door": {"clientCaSecret": authority}}), place, tmp_path / "mounted")
    with place.open(wait=False), place.connect() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if authority:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                connection.recv(100)
        else:
            assert connection.recv(100).startswith(b"HTTP/1.1 401")


@pytest.mark.nightly
@needs_haproxy
def test_pods_commands_serve_and_leave_the_volume_alone(small_repository: Path, tmp_path: Path) -> None:
    place, ports, objects = Place(tmp_path), free_endpoints(), render({})
    file, before = mounted(objects, place, tmp_path / "mounted"), sorted(small_repository.rglob("*"))
    words = [word.replace("/etc/scoremux", str(file.parent)) for word in server(objects)["args"]]
    words = [word.replace("/repository/profile.toml", "cpu-reference") for word in words]
    words = [word.replace("/repository", str(small_repository)) for word in words]
    own = {f"{name}_port": getattr(ports, name) for name in ("grpc", "http", "metrics", "watch")}
    own |= {"triton": "bundled", "metrics_address": "127.0.0.1", "watch_address": "127.0.0.1"}
    words += [f"--set={key}={value}" for key, value in own.items()]
    place.file, place.backends = file, [backend_of(ports)]
    with file.open("a") as text:
        text.write(place.backend_tables())
    with (tmp_path / "output").open("wb") as output:
        commands = ([SCOREMUX, *words], [SCOREMUX, "front-door", str(file)])
        started = [subprocess.Popen(command, stdout=output, stderr=output) for command in commands]
    try:
        until(lambda: code(f"{ports.watch_url}/readyz") == 200, started[0])
        keys = {"tls": place.tls, "token": place.everything}
        with ScoringClient(place.url("grpcs"), **keys) as patient:  # HAProxy asks twice a second whether Triton serves
            assert patient.score([Response("t-4", "router")])[0].ok
    finally:
        for process in started:
            process.terminate()
    assert [process.wait(120) for process in started] == [0, 0]
    assert sorted(small_repository.rglob("*")) == before
