"""A real Prometheus scrapes a real server: every rule works, every query of the dashboard returns data."""

import json
import math
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from decided import make_decision, write_decision
from making import ROOT, TASKS, make_adapter
from scoremux_client import Response, ScoringClient
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from serving import Serving, serving
from waiting import free_port, until

MONITORING = ROOT / "server_config" / "monitoring"
VARIABLES = {"$__rate_interval": "4s", "$server": ".*", "$task": ".*"}
METRIC = re.compile(r"\b(?:scoremux_\w+|nv_\w+|server\w*:\w+:\w+)\b")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def expressions() -> list[tuple[str, str]]:
    """Return every query of the dashboard with its panel's title, variables filled in."""
    dashboard = json.loads((MONITORING / "grafana" / "scoremux.json").read_text())
    found = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, query
            found.append((panel["title"], query))
    return found


@needs("promtool")
def test_promtool_accepts_the_configuration_and_the_rules_pass_their_tests() -> None:
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "tests/alerts.test.yml"]):
        ran = subprocess.run(["promtool", *words], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_rule_test_and_says_what_happened_and_what_to_do() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.rules.yml").read_text())
    tests = (MONITORING / "tests" / "alerts.test.yml").read_text()
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
    assert len(alerts) >= 15
    assert [alert for alert in alerts if alert not in tests] == []
    for name, rule in alerts.items():
        assert set(rule["annotations"]) == {"summary", "description"}, name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def values(self, query: str) -> list[float]:
        values = [float(series["value"][1]) for series in self.get("query", query=query)["result"]]
        return [value for value in values if math.isfinite(value)]


@contextmanager
def prometheus(server: Serving, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with our configuration; only targets and intervals are the test's."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    ports = {"scoremux-triton": server.endpoints.metrics, "scoremux-watcher": server.endpoints.watch}
    for job in config["scrape_configs"]:
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{ports.pop(job['job_name'])}"]
    assert not ports
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}"], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=60).close()
                break
            except (urllib.error.HTTPError, OSError):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def scraped(
    small_repository: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus over a server that scores, for as long as the tests of this module run."""
    stop = threading.Event()
    repository = tmp_path_factory.mktemp("decided") / "repository"
    shutil.copytree(small_repository, repository)
    folder = make_adapter(repository.with_name("adapter"), backbone.spec, "decided", seed=3)
    Store(repository / "store").add([write_decision(folder, make_decision(least=1.0))], backbone)
    rows = [Response(task, "the router hands out addresses", task) for task in TASKS] * 15
    decided = [Response("decided", ""), Response("decided", "the router hands out addresses")]

    def load() -> None:
        with ScoringClient(server.endpoints.grpc_url) as client:
            while not stop.wait(0.1):
                client.score([*rows, *decided, Response("no-such-task", "the")])

    with serving(repository, tmp_path_factory.mktemp("scraped")) as server:
        thread = threading.Thread(target=load)
        thread.start()
        try:
            with prometheus(server, tmp_path_factory.mktemp("prometheus")) as running:
                yield running
        finally:
            stop.set()
            thread.join()


@needs("prometheus")
def test_every_query_of_the_dashboard_returns_data(scraped: Prometheus) -> None:
    missing = expressions()
    assert len(missing) > 25
    deadline = time.monotonic() + 90
    while missing and time.monotonic() < deadline:
        time.sleep(0.5)
        missing = [(title, query) for title, query in missing if not scraped.values(query)]
    assert missing == []


@needs("prometheus")
def test_every_rule_evaluates_and_every_metric_in_it_exists(scraped: Prometheus) -> None:
    groups = scraped.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    deadline = time.monotonic() + 60
    while [rule for rule in rules if rule["health"] == "unknown"] and time.monotonic() < deadline:
        time.sleep(0.5)
        rules = [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    names = {name for rule in rules for name in METRIC.findall(rule["query"])}
    assert len(names) > 15
    missing = lambda: [name for name in sorted(names) if not scraped.values(f"count({name})")]  # noqa: E731
    until(lambda: not missing(), shown=missing)


@needs("prometheus")
def test_a_healthy_server_raises_no_alert_and_both_jobs_name_it(scraped: Prometheus) -> None:
    assert scraped.get("query", query='ALERTS{alertstate="firing"}')["result"] == []
    expected = {"scoremux-triton": ("1", "a"), "scoremux-watcher": ("1", "a")}
    up, deadline = {}, time.monotonic() + 90
    while up != expected and time.monotonic() < deadline:
        time.sleep(0.5)
        series = scraped.get("query", query="up")["result"]
        up = {s["metric"]["job"]: (s["value"][1], s["metric"]["server"]) for s in series}
    assert up == expected
