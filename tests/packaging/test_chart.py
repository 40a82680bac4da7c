"""The Helm chart, rendered by Helm itself and validated with Kubernetes' own schemas."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from charts import CASES, FOLDER, GPU, Objects, door, lint, pod, render, schema_error, server, settings, yaml
from doors import Place, needs_haproxy
from scoremux_server.triton.installation import BUNDLED_RELEASE, Installation

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


def test_a_pod_has_no_rights_and_writes_to_scratch_volumes_only(objects: Objects) -> None:
    security = pod(objects)["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(objects)["automountServiceAccountToken"] is False
    container = server(objects)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")} == {"/tmp", "/dev/shm"}
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["repository"]["persistentVolumeClaim"]["readOnly"] is True
    assert all(volume["emptyDir"].get("sizeLimit") for volume in volumes.values() if "emptyDir" in volume)


def test_probes_ask_the_watcher(objects: Objects) -> None:
    container = server(objects)
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


def test_the_bundled_triton_is_never_opened_to_a_network(objects: Objects) -> None:
    assert "triton=/opt/tritonserver" in settings(objects)
    with pytest.raises(Exception, match=r"set has triton=bundled, but the chart sets triton itself"):
        render({"set": ["triton=bundled"]})
    with pytest.raises(Exception, match="loopback only"):
        Installation(Path("/opt"), BUNDLED_RELEASE, bundled=True).check_address("0.0.0.0")


def test_clients_reach_the_door_or_the_server_and_nothing_else() -> None:
    for values, wanted, address in (({}, {8443}, "127.0.0.1"), (CASES["without a door"], {8000, 8001}, "0.0.0.0")):
        objects = render(values)
        assert f"address={address}" in settings(objects)
        opened = server(objects)["ports"] + (door(objects)["ports"] if not values else [])
        ports = {port["name"]: port["containerPort"] for port in opened}
        service = {port["name"]: port for port in objects["Service", "essay"]["spec"]["ports"]}
        assert {port["port"] for port in service.values()} == wanted
        assert all(port["targetPort"] == name and port["port"] == ports[name] for name, port in service.items())
        policy = objects["NetworkPolicy", "essay"]["spec"]
        assert policy["egress"] == []
        assert {ports[port["port"]] for port in policy["ingress"][0]["ports"]} == wanted


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
