"""What Prometheus gets from the chart: the jobs and the labels that alerts and recording rules select by."""

from __future__ import annotations

import re
from typing import Any

import pytest

from charts import CASES, Objects, pod, render, yaml
from making import ROOT
from scoremux_engine.triton.metrics import ALL

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
    assert all((port["port"], port["targetPort"]) == (ports[name], name) for name, port in pods.items())
    _, monitoring = objects["NetworkPolicy", "essay"]["spec"]["ingress"]
    assert {port["port"] for port in monitoring["ports"]} == {"metrics", "watch"}
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
