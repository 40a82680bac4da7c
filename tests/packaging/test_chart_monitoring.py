"""What Prometheus gets from the chart: the jobs and the labels that alerts and recording rules go by."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from charts import CASES, CPU, Objects, container, render, yaml
from making import ROOT
from scoremux_engine.monitoring.metrics import ALL, INFO
from scoremux_server.canary import Answer, Verdict
from scoremux_server.health import Health
from scoremux_server.watch_metrics import exposition

MONITORING = ROOT / "server_config" / "monitoring"
RULES = "".join((MONITORING / f"{name}.rules.yml").read_text(encoding="utf-8") for name in ("alerts", "recording"))
METRIC = re.compile(r"\b(?:scoremux|nv)_\w+")
WATCHER, TRITON = "scoremux-watcher", "scoremux-triton"
MONITORED = {"gpu": {"metrics": {"serviceMonitor": True}}, "cpu": CASES["cpu, monitored"]}
META = {
    "__meta_kubernetes_namespace": "scores",
    "__meta_kubernetes_pod_name": "essay-6f7c-x2",
    "__meta_kubernetes_service_name": "essay-pods",
}
"""Labels as Prometheus finds them."""
OPERATOR = {
    "namespace": "__meta_kubernetes_namespace",
    "service": "__meta_kubernetes_service_name",
    "job": "__meta_kubernetes_service_name",
}
"""What Prometheus's operator makes of them before a monitor's own relabelings, as far as rules go by it."""


def endpoints(objects: Objects) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = objects["ServiceMonitor", "essay"]["spec"]["endpoints"]
    return found


def target_labels(endpoint: dict[str, Any]) -> dict[str, str]:
    """Return what `replace`, the only action here, makes of META and the operator's own labels."""
    labels = {label: META[source] for label, source in OPERATOR.items()}
    for rule in endpoint["relabelings"]:
        assert set(rule) <= {"sourceLabels", "targetLabel", "replacement"}
        values = [META[label] for label in rule.get("sourceLabels", [])]
        labels[rule["targetLabel"]] = rule.get("replacement", ";".join(values))
    return labels


def watcher_metrics() -> set[str]:
    """Return the names of the watcher's series, after a first good canary."""
    health = Health()
    health.note(Answer(Verdict.GOOD))
    return set(re.findall(r"^(scoremux_\w+)", exposition(health).decode(), re.MULTILINE))


def read_rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / f"{name}.rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def labels_in_rules() -> set[str]:
    """Return every label that the rules name, in selectors, groupings and sentences."""
    matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", RULES)
    grouped = re.findall(r"\b(?:by|on) \(([\w, ]+)\)", RULES)
    return {*matched, *re.findall(r"\$labels\.(\w+)", RULES), *(name for one in grouped for name in one.split(", "))}


@pytest.mark.parametrize(("mode", "jobs"), [("gpu", {WATCHER, TRITON}), ("cpu", {WATCHER})])
def test_each_job_that_the_rules_name_is_scraped(mode: str, jobs: set[str]) -> None:
    assert set(re.findall(r"job=\"([\w-]+)\"", RULES)) == {WATCHER, TRITON}
    made = [target_labels(endpoint) for endpoint in endpoints(render(MONITORED[mode]))]
    assert {labels["job"] for labels in made} == jobs and len(made) == len(jobs)
    assert {labels["server"] for labels in made} == {META["__meta_kubernetes_pod_name"]}


def test_each_label_that_the_rules_name_is_made_by_the_monitor_or_by_the_metrics() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    written = {job["job_name"]: {"job", *job["static_configs"][0]["labels"]} for job in config["scrape_configs"]}
    made = {labels["job"]: set(labels) for labels in map(target_labels, endpoints(render(MONITORED["gpu"])))}
    assert written == {WATCHER: {"job", "server"}, TRITON: {"job", "server"}}
    assert made == {job: labels | {"namespace", "service"} for job, labels in written.items()}
    own = {label for metric in ALL for label in metric.labels} | {"state", "verdict", "le", "model"}
    named = labels_in_rules()
    assert {"job", "server", "task", "status"} <= named
    assert named - own == {"job", "server", "namespace", "service"}


def test_servers_are_compared_within_a_deployment() -> None:
    (expr,) = (rule["expr"] for rule in read_rules("alerts") if rule.get("alert") == "ScoremuxServersDiffer")
    outer, inner = (set(labels.split(", ")) for labels in re.findall(r"count by \(([\w, ]+)\)", expr))
    assert inner - outer == {"backbone", "precision", "runner", "device"} <= set(INFO.labels)
    for endpoint in endpoints(render(MONITORED["gpu"])):
        assert {label: META[OPERATOR[label]] for label in outer}.items() <= target_labels(endpoint).items()
    for release in ("essay", "exam"):  # by `service` two releases of one namespace differ
        monitored = [name for kind, name in render(MONITORED["gpu"], release) if kind == "Service" and "pods" in name]
        assert monitored == [f"{release}-pods"]


def test_the_readme_names_the_alerts_that_are_lost_without_tritons_metrics() -> None:
    rules = [rule for name in ("alerts", "recording") for rule in read_rules(name)]
    recorded = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    alerts = {rule["alert"]: rule["expr"] for rule in rules if "alert" in rule}
    for record, expression in recorded.items():
        alerts = {alert: expr.replace(record, expression) for alert, expr in alerts.items()}
    there = watcher_metrics()
    lost = {alert for alert, expr in alerts.items() if not set(METRIC.findall(expr)) <= there or TRITON in expr}
    assert lost.isdisjoint({"ScoremuxWatcherDown", "ScoremuxNotReady", "ScoremuxCanaryOld", "ScoremuxRestartsLooping"})
    assert lost.isdisjoint({"ScoremuxLatencyBudgetBurnsFast", "ScoremuxLatencyBudgetBurnsSlowly"})
    readme = (ROOT / "server_config" / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Kubernetes")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(Scoremux\w+)`", section)) == lost


@pytest.mark.parametrize("case", CASES)
def test_prometheus_and_nobody_else_reaches_what_is_scraped(case: str) -> None:
    objects = render(CASES[case])
    server = {port["name"]: port["containerPort"] for port in container(objects, "server")["ports"]}
    wanted = {"watch", "metrics"} if not case.startswith("cpu") else {"watch"}
    pods, balanced = (
        {port["name"]: port for port in objects["Service", name]["spec"]["ports"]} for name in ("essay-pods", "essay")
    )
    assert set(pods) - set(balanced) == wanted  # once for each pod, and never by way of a balanced address
    for name in wanted:
        assert (pods[name]["port"], pods[name]["targetPort"]) == (server[name], name)
    if ("NetworkPolicy", "essay") in objects:
        _, monitoring = objects["NetworkPolicy", "essay"]["spec"]["ingress"]
        assert {port["port"] for port in monitoring["ports"]} == {server[name] for name in wanted}
        assert monitoring["from"] == [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ]


@pytest.mark.parametrize("mode", MONITORED)
def test_the_monitor_finds_its_ports_in_the_pods_service(mode: str) -> None:
    objects = render(MONITORED[mode])
    monitor = objects["ServiceMonitor", "essay"]["spec"]
    for name, once in (("essay-pods", True), ("essay", False)):
        service = objects["Service", name]
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] in ports for endpoint in monitor["endpoints"]} == {once}
    assert {endpoint["path"] for endpoint in monitor["endpoints"]} == {"/metrics"}


def test_the_monitor_has_the_labels_that_a_prometheus_selects_by() -> None:
    labels = render(CASES["everything"])["ServiceMonitor", "essay"]["metadata"]["labels"]
    assert labels["release"] == "prometheus" and labels["app.kubernetes.io/name"] == "scoremux"
    assert ("ServiceMonitor", "essay") not in render({}) and ("ServiceMonitor", "essay") not in render(CPU)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_itself_makes_these_labels(tmp_path: Path) -> None:
    """Its configuration as the operator writes it: labels of its own, then the monitor's relabelings."""
    spelled = {"sourceLabels": "source_labels", "targetLabel": "target_label", "replacement": "replacement"}
    for endpoint in endpoints(render(MONITORED["gpu"])):
        relabel = [{spelled[key]: value for key, value in rule.items()} for rule in endpoint["relabelings"]]
        job = {
            "job_name": "serviceMonitor/scores/essay",
            "static_configs": [{"targets": ["10.0.0.1:1"], "labels": META}],
            "relabel_configs": [
                *({"source_labels": [source], "target_label": label} for label, source in OPERATOR.items()),
                *relabel,
            ],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
        command = ["promtool", "check", "service-discovery", "--timeout=1s", "prometheus.yml", job["job_name"]]
        asked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert asked.returncode == 0, asked.stderr
        ((labels),) = (target["labels"] for target in json.loads(asked.stdout))
        assert target_labels(endpoint).items() <= labels.items()
