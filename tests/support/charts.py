"""The Helm chart's objects, rendered by Helm itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from making import ROOT

helm = pytest.importorskip("helm_python.chart", reason="pip install helm-python-sdk")
yaml = pytest.importorskip("yaml", reason="pip install pyyaml")

FOLDER = ROOT / "server_config" / "kubernetes"
CHART = FOLDER / "scoremux"
CPU = yaml.safe_load((CHART / "values-cpu.yaml").read_text(encoding="utf-8"))

CASES: dict[str, dict[str, Any]] = {
    "gpu": {},
    "cpu": CPU,
    "cpu, monitored": {**CPU, "metrics": {**CPU["metrics"], "serviceMonitor": True}},
    "no door": {"door": {"enabled": False}},
    "fixed size": {"autoscaling": {"enabled": False}, "replicas": 3, "networkPolicy": {"enabled": False}},
    "everything": {
        "door": {"clientCa": {"secret": "authorities"}},
        "metrics": {"serviceMonitor": True, "serviceMonitorLabels": {"release": "prometheus"}},
        "repository": {"existingClaim": "mine"},
        "runtimeClassName": "nvidia",
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "imagePullSecrets": [{"name": "pull"}],
        "podAnnotations": {"team": "scores"},
        "set": ["threads=2", "trace_url=http://collector.monitoring:4318/v1/traces"],
        "networkPolicy": {"collectors": [{"podSelector": {"matchLabels": {"app": "collector"}}}]},
        "audit": {"claim": "audit", "keySecret": "audit-key"},
        "disruptionBudget": {"maxUnavailable": "50%"},
        "rollout": {"maxSurge": "25%"},
    },
}
Objects = dict[tuple[str, str], dict[str, Any]]


def render(values: dict[str, Any], release: str = "essay") -> Objects:
    """Return a release's objects by kind and name."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name=release, namespace="scores")
    texts = (text for path, text in files.items() if not path.endswith("NOTES.txt"))
    found = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment", "essay"]["spec"]["template"]["spec"]
    return spec


def containers(objects: Objects) -> Iterator[dict[str, Any]]:
    yield from (*pod(objects).get("initContainers", []), *pod(objects)["containers"])


def settings(objects: Objects) -> list[str]:
    """Return the server's `key=value` settings."""
    words = container(objects, "server")["args"]
    return [word.partition("=")[2] for word in words if word.startswith("--set=")]


def container(objects: Objects, name: str) -> dict[str, Any]:
    return next(one for one in containers(objects) if one["name"] == name)
