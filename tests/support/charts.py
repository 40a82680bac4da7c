"""The Helm chart's objects, rendered by Helm itself."""

from __future__ import annotations

from typing import Any

import pytest

from making import ROOT

helm = pytest.importorskip("helm_python.chart", reason="pip install helm-python-sdk")
yaml = pytest.importorskip("yaml", reason="pip install pyyaml")

FOLDER = ROOT / "server_config" / "kubernetes"
CHART = FOLDER / "scoremux"
GPU = yaml.safe_load((CHART / "values-gpu.yaml").read_text(encoding="utf-8"))

CASES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "gpu": GPU,
    "without a door": {"door": {"enabled": False}},
    "everything": {
        "profile": "cpu-reference",
        "door": {"clientCaSecret": "authorities"},
        "store": {"claim": "mine"},
        "autoscaling": {"minReplicas": 3, "maxReplicas": 3},
        "serviceMonitorLabels": {"release": "prometheus"},
        "pod": {
            "runtimeClassName": "nvidia",
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "imagePullSecrets": [{"name": "pull"}],
        },
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


def server(objects: Objects) -> dict[str, Any]:
    """Return the pod's only container."""
    (container,) = pod(objects)["containers"]
    found: dict[str, Any] = container
    return found


def settings(objects: Objects) -> list[str]:
    """Return the server's `key=value` settings."""
    words = server(objects)["args"]
    return [word.partition("=")[2] for word in words if word.startswith("--set=")]
