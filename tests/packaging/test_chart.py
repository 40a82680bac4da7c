"""The Helm chart, rendered by Helm itself and held against Kubernetes' own schemas."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from charts import CASES, CHART, CPU, FOLDER, Objects, container, containers, helm, pod, render, settings, yaml
from scoremux_server.errors import SetupError
from scoremux_server.installation import BUNDLED_RELEASE, Installation
from scoremux_server.profile import Profile

schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the chart takes, and the newest whose schemas there are."""


@pytest.fixture(params=CASES)
def objects(request: pytest.FixtureRequest) -> Objects:
    return render(CASES[request.param])


def test_lint_finds_nothing() -> None:
    report = helm.lint(str(CHART), strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_kubernetes_takes(objects: Objects, version: str) -> None:
    checked = {
        kind: schemas.validate(one, version, strict=True)
        for (kind, _), one in objects.items()
        if kind != "ServiceMonitor"  # the Prometheus operator's own kind: it has no schema there
    }
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= set(checked)
    assert all(str(found).startswith(version) for found in checked.values())


def test_a_typing_error_would_be_found() -> None:
    deployment = render({})["Deployment", "essay"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(schemas.ValidationError, match="readynessProbe"):
        schemas.validate(deployment, VERSIONS[-1], strict=True)


def test_each_pod_can_write_nowhere_but_where_it_must(objects: Objects) -> None:
    security = pod(objects)["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(objects)["automountServiceAccountToken"] is False
    for one in containers(objects):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["resources"]["limits"]["memory"]
        writable = {m["mountPath"] for m in one["volumeMounts"] if not m.get("readOnly")}
        assert writable <= {"/tmp", "/dev/shm", "/var/log/scoremux", "/audit"}
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    assert volumes["repository"]["persistentVolumeClaim"]["readOnly"] is True
    assert all(volume["emptyDir"].get("sizeLimit") for volume in volumes.values() if "emptyDir" in volume)


def test_every_mount_has_its_volume(objects: Objects) -> None:
    volumes = {volume["name"] for volume in pod(objects)["volumes"]}
    mounted = {mount["name"] for one in containers(objects) for mount in one["volumeMounts"]}
    assert mounted == volumes


def test_probes_ask_the_watcher(objects: Objects) -> None:
    server = container(objects, "server")
    port = next(one["containerPort"] for one in server["ports"] if one["name"] == "watch")
    assert f"--set=watch_port={port}" in server["args"]
    assert server["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "watch"}
    assert (
        server["livenessProbe"]["httpGet"] == server["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "watch"}
    )


def test_the_server_takes_its_arguments(objects: Objects, small_repository: Path, tmp_path: Path) -> None:
    server = container(objects, "server")
    arguments = [word.replace("/repository", str(small_repository)) for word in server["args"]]
    arguments = [re.sub(r"^--log=.*", f"--log={tmp_path / 'log'}", word) for word in arguments]
    if "--profile=cpu" not in arguments:  # no NVIDIA container here: its profile, with the bundled Triton on loopback
        arguments += ["--set=triton=bundled", "--set=address=127.0.0.1", "--set=backend=python"]
        arguments += ["--set=metrics_address=127.0.0.1"]
    command = [str(Path(sys.executable).with_name("scoremux")), *arguments, "--print-config"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert printed.returncode == 0, printed.stderr
    assert "--grpc-port=8001" in printed.stdout


def test_strangers_reach_no_triton_that_would_let_them_run_code() -> None:
    bundled = Installation(Path("/opt"), BUNDLED_RELEASE, bundled=True)
    for name, values in CASES.items():
        given = dict(one.split("=", 1) for one in settings(render(values)))
        if name.startswith("cpu"):
            bundled.check_address(given["address"])
            bundled.check_address(given["metrics_address"])
        else:
            assert given["metrics_address"] == "0.0.0.0"
            with pytest.raises(SetupError):
                bundled.check_address(given["metrics_address"])


@pytest.mark.parametrize("door", [True, False])
@pytest.mark.parametrize("metrics", [True, False])
def test_triton_leaves_loopback_with_what_is_reached_from_outside_and_nothing_else(door: bool, metrics: bool) -> None:
    given = settings(render({"door": {"enabled": door}, "metrics": {"enabled": metrics}}))
    assert f"address={'127.0.0.1' if door else '0.0.0.0'}" in given
    assert f"metrics_address={'0.0.0.0' if metrics else '127.0.0.1'}" in given


def test_clients_reach_the_door_or_the_server_and_nothing_else() -> None:
    for values, wanted in ((CPU, {8443}), ({}, {8443}), ({"door": {"enabled": False}}, {8000, 8001})):
        objects = render(values)
        policy = objects["NetworkPolicy", "essay"]["spec"]
        assert policy["egress"] == []
        assert {port["port"] for port in policy["ingress"][0]["ports"]} == wanted
        assert {port["port"] for port in objects["Service", "essay"]["spec"]["ports"]} == wanted
        names = {port["name"] for one in containers(objects) for port in one.get("ports", [])}
        assert {port["targetPort"] for port in objects["Service", "essay"]["spec"]["ports"]} <= names


def test_autoscaling_reads_pending_requests_where_there_are_metrics() -> None:
    (pods,) = render({})["HorizontalPodAutoscaler", "essay"]["spec"]["metrics"]
    rules = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    assert pods["pods"]["metric"]["name"] in [rule["name"]["as"] for rule in rules]
    (cpu,) = render(CPU)["HorizontalPodAutoscaler", "essay"]["spec"]["metrics"]
    assert cpu["containerResource"]["container"] == "server"
    fixed = render(CASES["fixed size"])
    assert ("HorizontalPodAutoscaler", "essay") not in fixed
    assert fixed["Deployment", "essay"]["spec"]["replicas"] == 3
    assert "replicas" not in render({})["Deployment", "essay"]["spec"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_adapters_query_is_one_that_prometheus_takes(tmp_path: Path) -> None:
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
        ({"set": ["watch_port=1"]}, "set"),
        ({"set": ["metrics_address=0.0.0.0"]}, "set"),
        ({"networkPolicy": {"clients": []}}, "clients"),
        ({"networkPolicy": {"clients": [{}]}}, "clients"),
        ({"sharedMemory": "lots"}, "sharedMemory"),
        ({"metrics": {"serviceMonitorLabels": {"release": 1}}}, "serviceMonitorLabels"),
        ({"disruptionBudget": {"maxUnavailable": "lots"}}, "disruptionBudget/maxUnavailable"),
        ({"disruptionBudget": {"maxUnavailable": -1}}, "disruptionBudget/maxUnavailable"),
        ({"disruptionBudget": {"maxUnavailable": "101%"}}, "disruptionBudget/maxUnavailable"),
        ({"disruptionBudget": {"maxUnavailable": 1.5}}, "disruptionBudget/maxUnavailable"),
        ({"rollout": {"maxSurge": "one"}}, "rollout/maxSurge"),
        ({"rollout": {"maxUnavailable": -1}}, "rollout/maxUnavailable"),
        ({"audit": {"path": "/x"}}, "path"),
        ({"audit": {"key": "../key"}}, "audit/key"),
        ({"networkPolicy": {"collectors": [{}]}}, "collectors"),
        ({"nodeSelector": {"gpu": True}}, "nodeSelector"),
        ({"podAnnotations": {"team": 1}}, "podAnnotations"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(Exception, match=named):
        chart.validate_schema(chart.merge_values(values))


def test_the_chart_names_profiles_that_there_are() -> None:
    for values in CASES.values():
        objects = render(values)
        arguments = container(objects, "server")["args"]
        (profile,) = [word.partition("=")[2] for word in arguments if word.startswith("--profile=")]
        assert Profile.read(profile, settings(objects))
