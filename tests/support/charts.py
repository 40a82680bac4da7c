"""The Helm chart's objects, rendered by Helm itself.

Helm runs in a process of its own: it is written in Go, whose runtime takes over the signals of the process it is in. A
later write to a closed connection then killed a process of tests.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

from making import ROOT

if find_spec("helm_python") is None:
    pytest.skip("pip install helm-python-sdk", allow_module_level=True)
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
    """Return a release's objects by kind and name. Raises ValueError with what Helm says."""
    answer = _helm().submit(_render, values, release).result()
    if isinstance(answer, str):
        raise ValueError(answer)
    texts = (text for path, text in answer.items() if not path.endswith("NOTES.txt"))
    found = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def lint() -> dict[str, Any]:
    """Return what `helm lint --strict` finds."""
    return _helm().submit(_lint).result()


def schema_error(values: dict[str, Any]) -> str:
    """Return what the chart's schema says against values, empty if nothing."""
    return _helm().submit(_schema_error, values).result()


@cache
def _helm() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _render(values: dict[str, Any], release: str) -> dict[str, str] | str:
    from helm_python.chart import Chart

    try:
        with Chart.load(CHART) as chart:
            return dict(chart.render(values, name=release, namespace="scores"))
    except Exception as error:
        return str(error)


def _lint() -> dict[str, Any]:
    from helm_python.chart import lint

    return dict(lint(str(CHART), strict=True))


def _schema_error(values: dict[str, Any]) -> str:
    from helm_python.chart import Chart

    with Chart.load(CHART) as chart:
        try:
            chart.validate_schema(chart.merge_values(values))
        except Exception as error:
            return str(error)
    return ""


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment", "essay"]["spec"]["template"]["spec"]
    return spec


def server(objects: Objects) -> dict[str, Any]:
    """Return the pod's only container."""
    (container,) = pod(objects)["containers"]
    found: dict[str, Any] = container
    return found
