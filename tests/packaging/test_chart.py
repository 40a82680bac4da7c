"""The Helm chart, rendered by Helm itself and validated with Kubernetes' own schemas: pods, front door, monitoring."""

import re
import shutil
import ssl
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from charts import CASES, FOLDER, GPU, Objects, door, lint, pod, render, schema_error, server, settings, yaml
from doors import Place, backend_of, needs_haproxy
from making import ROOT
from scoremux_client import Response, ScoringClient
from scoremux_engine.backend.metrics import ALL
from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_server.front_door.door import FrontDoor
from serving import SCOREMUX, code
from waiting import free_endpoints, until

schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the chart takes, and the newest with schemas."""
NOT_YAML = ["123", "yes", "null", "1e3", "a: b", "a #b", 'a"b', "a\\b"]
"""Strings that YAML reads as something else unless they are quoted."""


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


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_that_writes_to_the_volume_mounts_the_claim_of_the_chart(version: str) -> None:
    writer = yaml.safe_load((FOLDER / "writer.yaml").read_text(encoding="utf-8"))
    assert schemas.validate(writer, version, strict=True)
    (volume,) = writer["spec"]["volumes"]
    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in render({}, "essays")
    assert "labels" not in writer["metadata"]  # the services send it no requests


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


def test_the_image_can_be_named_by_its_digest() -> None:
    digest = "sha256:" + "0a" * 32
    assert server(render({}))["image"] == "scoremux:0.1.0-cpu"
    assert server(render({"image": {"digest": digest}}))["image"] == f"scoremux:0.1.0-cpu@{digest}"
    assert "digest" in schema_error({"image": {"digest": "sha256:0a"}})


def test_a_pod_has_no_rights_writes_to_scratch_volumes_only_and_has_the_watchers_probes(objects: Objects) -> None:
    assert pod(objects)["automountServiceAccountToken"] is False
    container = server(objects)
    assert container["resources"]["limits"]["memory"]
    assert {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")} == {"/tmp", "/dev/shm"}
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["repository"]["persistentVolumeClaim"]["readOnly"] is True
    assert all(volume["emptyDir"].get("sizeLimit") for volume in volumes.values() if "emptyDir" in volume)
    assert "triton=/opt/tritonserver" in settings(objects)
    assert {"name": "watch", "containerPort": 8003} in container["ports"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "watch"}
    alive = {"path": "/healthz", "port": "watch"}
    assert container["livenessProbe"]["httpGet"] == container["startupProbe"]["httpGet"] == alive


@pytest.mark.nightly
@needs_haproxy
def test_the_server_accepts_its_arguments(objects: Objects, small_repository: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    words = [word.replace("/repository", str(small_repository), 1) for word in server(objects)["args"]]
    words = [word.replace("/etc/scoremux", str(place.folder)) for word in words]
    if f"--profile={small_repository}/profile.toml" in words:
        (tmp_path / "profile.toml").write_text('runner = "openvino"\nprecision = "float32"\n')
        words[words.index(f"--profile={small_repository}/profile.toml")] = f"--profile={tmp_path / 'profile.toml'}"
    # The Triton at hand is the bundled one, which accepts loopback addresses only and has no other backends.
    words += ["--set=triton=bundled", "--set=address=127.0.0.1", "--set=metrics_address=127.0.0.1"]
    words += ["--set=backend=python"] if "--profile=gpu-onnx" in words else []
    command = [str(Path(sys.executable).with_name("scoremux")), *words, "--print-config"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert printed.returncode == 0, printed.stderr
    assert "--grpc-port=8001" in printed.stdout


def test_clients_reach_the_door_or_the_server_and_nothing_else() -> None:
    for values, wanted, address in (({}, {8443}, "127.0.0.1"), (CASES["without a door"], {8000, 8001}, "0.0.0.0")):
        objects = render(values)
        assert f"address={address}" in settings(objects)
        opened = server(objects)["ports"] + (door(objects)["ports"] if not values else [])
        ports = {port["name"]: port["containerPort"] for port in opened}
        service = {port["name"]: port for port in objects["Service", "essay"]["spec"]["ports"]}
        assert {port["port"] for port in service.values()} == wanted
        assert all(port["port"] == port["targetPort"] == ports[name] for name, port in service.items())
        policy = objects["NetworkPolicy", "essay"]["spec"]
        assert policy["egress"] == []
        assert {port["port"] for port in policy["ingress"][0]["ports"]} == wanted


def test_autoscaling_goes_by_cpu_or_by_waiting_requests_or_is_off() -> None:
    (cpu,) = render({})["HorizontalPodAutoscaler", "essay"]["spec"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    (pods,) = render(GPU)["HorizontalPodAutoscaler", "essay"]["spec"]["metrics"]
    rules = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    assert pods["pods"]["metric"]["name"] in [rule["name"]["as"] for rule in rules]
    fixed = render({"autoscaling": {"minReplicas": 3, "maxReplicas": 3}})
    assert ("HorizontalPodAutoscaler", "essay") not in fixed
    assert fixed["Deployment", "essay"]["spec"]["replicas"] == 3
    assert "replicas" not in render({})["Deployment", "essay"]["spec"]


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


@pytest.mark.parametrize("text", NOT_YAML)
def test_a_string_stays_a_string(text: str) -> None:
    secrets = {"tlsSecret": text, "tokensSecret": text, "clientCaSecret": text}
    values = {"image": {"repository": text, "tag": text}, "profile": text, "store": {"claim": text}, "door": secrets}
    objects = render({**values, "set": [f"bank_bytes={text}"], "serviceMonitorLabels": {"a": text}})
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    found = [one["secret"]["name"] for one in volumes["door"]["projected"]["sources"][1:]]
    found += [volumes["repository"]["persistentVolumeClaim"]["claimName"]]
    found += [objects["ServiceMonitor", "essay"]["metadata"]["labels"]["a"]]
    claim = render({"store": {"storageClass": text}})["PersistentVolumeClaim", "essay-repository"]
    assert [*found, claim["spec"]["storageClassName"]] == [text] * 6
    assert {f"--profile={text}", f"--set=bank_bytes={text}"} <= set(server(objects)["args"])
    assert server(objects)["image"] == f"{text}:{text}"


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


def test_server_and_sidecar_read_the_same_key_and_the_sidecar_the_volumes_configuration() -> None:
    objects = render({})
    for container, word in ((server(objects), "--set=grant_key_file={}/grant.key"), (door(objects), "{}/door.toml")):
        (mount,) = [one for one in container["volumeMounts"] if one["name"] == "door"]
        assert word.format(mount["mountPath"]) in container["args"] and mount["readOnly"] is True
    assert {mount["mountPath"] for mount in door(objects)["volumeMounts"] if not mount.get("readOnly")} == {"/tmp"}
    assert door(objects)["image"] == server(objects)["image"]
    assert sources(objects) == {
        "scoremux-tls": {"tls.crt": "tls.crt", "tls.key": "tls.key"},
        "scoremux-tokens": {"tokens.json": "tokens.json", "grant.key": "grant.key"},
    }
    without = render({"door": {"enabled": False}})
    assert not any("grant" in word for word in server(without)["args"]) and "initContainers" not in pod(without)
    assert ("ConfigMap", "essay-door") not in without and "essay-tls" not in str(pod(without))


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


@needs_haproxy
def test_the_largest_requests_of_all_connections_fit_into_the_memory_of_the_sidecar(tmp_path: Path) -> None:
    objects = render({})
    file = mounted(objects, Place(tmp_path), tmp_path / "mounted")
    found = {
        key: int(value) for key, value in re.findall(r"^ +([\w.-]+) (\d+)$", FrontDoor(file).rendered(), re.MULTILINE)
    }
    # Measured with HAProxy 3.0: 70 MiB for itself, and 2.03 MiB for each upload of 2 MB.
    requests = found["maxconn"] * found["tune.h2.fe.max-concurrent-streams"]
    assert (128 << 20) + requests * (found["tune.bufsize"] + (128 << 10)) <= 1 << 30
    assert door(objects)["resources"]["limits"]["memory"] == "1Gi"
    config = FrontDoorConfig.read(file)
    assert config.connections_per_address < config.connections == found["maxconn"]  # no address can take them all


@pytest.mark.parametrize("values", [{}, {"door": {"enabled": False}}])
def test_a_pod_serves_while_kubernetes_takes_it_out_of_the_endpoints_and_then_drains(values: dict[str, Any]) -> None:
    objects = render(values)
    given = dict(setting.split("=", 1) for setting in settings(objects))
    word, pause_s = server(objects)["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = int(given["drain_s"])
    assert word == "sleep" and int(pause_s) >= 10 and drain_s >= 60
    # Beside the drain the server needs 2 s to refuse new rows, 5 s for Triton and 5 s for killed processes. Then
    # Kubernetes stops the sidecar.
    assert pod(objects)["terminationGracePeriodSeconds"] >= int(pause_s) + drain_s + 12 + 10


def test_systemd_restarts_the_door_and_lets_it_finish_its_requests() -> None:
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "server_config" / "systemd" / "scoremux-front-door.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[1:] == ["front-door", "/etc/scoremux/door.toml"]
    assert service["Restart"] == "always" and service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    # Else systemd would send SIGTERM to HAProxy too, which ends at once then.
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > FrontDoorConfig.model_fields["drain_s"].default


@pytest.mark.nightly
@needs_haproxy
def test_the_pods_commands_serve_through_the_door_and_write_nothing_to_the_volume(
    small_repository: Path, tmp_path: Path
) -> None:
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
        commands = ([SCOREMUX, *words], [SCOREMUX, *door(objects)["args"][:1], str(file)])
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


MONITORING = ROOT / "server_config" / "monitoring"
ALERTS = (MONITORING / "alerts.rules.yml").read_text(encoding="utf-8")
RULES = ALERTS + (MONITORING / "recording.rules.yml").read_text(encoding="utf-8")
WATCHER, TRITON = "scoremux-watcher", "scoremux-triton"
MONITORED = {"serviceMonitorLabels": {"release": "prometheus"}}
META = {
    "__meta_kubernetes_namespace": "scores",
    "__meta_kubernetes_pod_name": "essay-6f7c-x2",
    "__meta_kubernetes_service_name": "essay-pods",
}
"""Labels as Prometheus discovers them."""
OPERATOR = {
    "namespace": "__meta_kubernetes_namespace",
    "service": "__meta_kubernetes_service_name",
    "job": "__meta_kubernetes_service_name",
}
"""What the Prometheus operator makes of them before it applies a monitor's own relabelings."""


def endpoints(objects: Objects) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = objects["ServiceMonitor", "essay"]["spec"]["endpoints"]
    return found


def target_labels(endpoint: dict[str, Any]) -> dict[str, str]:
    """Return the labels that the operator's and the endpoint's relabelings make of META."""
    labels = {label: META[source] for label, source in OPERATOR.items()}
    for rule in endpoint["relabelings"]:
        assert set(rule) <= {"sourceLabels", "targetLabel", "replacement"}
        values = [META[label] for label in rule.get("sourceLabels", [])]
        labels[rule["targetLabel"]] = rule.get("replacement", ";".join(values))
    return labels


def labels_in_rules() -> set[str]:
    """Return every label that the rules name, in selectors, groupings and sentences."""
    matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", RULES)
    grouped = re.findall(r"\b(?:by|on) \(([\w, ]+)\)", RULES)
    return {*matched, *re.findall(r"\$labels\.(\w+)", RULES), *(name for one in grouped for name in one.split(", "))}


def test_each_label_in_the_rules_comes_from_the_scrape_configuration_or_from_the_metrics() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    written = {job["job_name"]: {"job", *job["static_configs"][0]["labels"]} for job in config["scrape_configs"]}
    made = {labels["job"]: labels for labels in map(target_labels, endpoints(render(MONITORED)))}
    assert written == {WATCHER: {"job", "server"}, TRITON: {"job", "server"}}
    assert {job: set(labels) for job, labels in made.items()} == {
        job: labels | {"namespace", "service"} for job, labels in written.items()
    }
    assert {labels["server"] for labels in made.values()} == {META["__meta_kubernetes_pod_name"]}
    assert set(re.findall(r"job=\"([\w-]+)\"", RULES)) == set(made)
    own = {label for metric in ALL for label in metric.labels} | {"state", "verdict", "le", "model"}
    assert labels_in_rules() - own == {"job", "server", "namespace", "service"}


@pytest.mark.parametrize("case", CASES)
def test_prometheus_and_nobody_else_reaches_the_metrics_of_each_pod(case: str) -> None:
    objects = render({**CASES[case], **MONITORED})
    containers = [*pod(objects)["containers"], *pod(objects).get("initContainers", [])]
    ports = {port["name"]: port["containerPort"] for one in containers for port in one["ports"]}
    pods, balanced = (
        {port["name"]: port for port in objects["Service", name]["spec"]["ports"]} for name in ("essay-pods", "essay")
    )
    assert set(pods) - set(balanced) == {"metrics", "watch"}  # once for each pod, never through a balanced address
    assert all(port["port"] == port["targetPort"] == ports[name] for name, port in pods.items())
    _, monitoring = objects["NetworkPolicy", "essay"]["spec"]["ingress"]
    assert {port["port"] for port in monitoring["ports"]} == {ports["metrics"], ports["watch"]}
    assert monitoring["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    monitor = objects["ServiceMonitor", "essay"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert (
        monitor["spec"]["selector"]["matchLabels"].items()
        <= objects["Service", "essay-pods"]["metadata"]["labels"].items()
    )
    assert {(one["port"], one["path"]) for one in endpoints(objects)} == {
        ("metrics", "/metrics"),
        ("watch", "/metrics"),
    }
    assert ("ServiceMonitor", "essay") not in render({})
