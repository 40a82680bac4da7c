"""The chart's values: what would render a broken object is refused with a sentence, and a string stays a string."""

from __future__ import annotations

from typing import Any

import pytest

from charts import CPU, Objects, container, pod, render, settings
from scoremux_server.profile import Profile, names

schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

TRACED = "trace_url=http://collector:4318/v1/traces"
NOT_YAML = ["123", "yes", "null", "1e3", "0x1f", "a: b", "a #b", "*a", 'a"b', "a\\b"]
"""What YAML would read as something else, were it written as it is."""


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"autoscaling": {"least": 9}}, r"autoscaling\.least is 9, more than autoscaling\.most, which is 8"),
        ({"rollout": {"maxUnavailable": 0}}, "maxSurge and rollout.maxUnavailable are both 0"),
        ({"rollout": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "are both 0: no pod could ever be replaced"),
        ({"set": ["audit_log=/tmp/log"]}, r"set has audit_log=/tmp/log, .* name a claim in audit\.claim"),
        ({"set": ["audit_key_file=/k"]}, r"set has audit_key_file=/k, .* name a secret in audit\.keySecret"),
        ({"audit": {"keySecret": "k"}}, r"audit\.keySecret is of no use without audit\.claim"),
        ({"set": [TRACED]}, rf"set has {TRACED}, .* name the collector's peers in networkPolicy\.collectors"),
        ({"set": ["trace_url=http://127.0.0.1.example/"]}, "nothing out of a pod"),
        (
            {**CPU, "door": {"enabled": False}},
            r"door\.enabled is false, but profile cpu serves with the bundled Triton",
        ),
        ({**CPU, "metrics": {"enabled": True}}, r"metrics\.enabled is true, but profile cpu serves with the bundled"),
        ({"set": ["triton= bundled "]}, "profile gpu-onnx serves with the bundled"),
    ],
)
def test_what_would_not_work_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"autoscaling": {"least": 8}},
        {"autoscaling": {"enabled": False, "least": 9}},
        {"rollout": {"maxSurge": 1, "maxUnavailable": 0}},
        {"set": [TRACED], "networkPolicy": {"enabled": False}},
        {"set": [TRACED, "trace_url="]},
        {"set": ["trace_url=http://127.0.0.1:4318/v1/traces"]},
        {"set": ["trace_url=http://[::1]:4318/v1/traces"]},
        {**CPU, "metrics": {"enabled": True}, "set": ["triton=/opt/tritonserver"]},
        {"profile": "mine.toml"},
    ],
)
def test_what_works_is_not_refused(values: dict[str, Any]) -> None:
    assert ("Deployment", "essay") in render(values)


@pytest.mark.parametrize("name", names())
def test_the_chart_knows_which_profiles_serve_with_the_bundled_triton(name: str) -> None:
    if Profile.read(name).triton != "bundled":
        assert render({"profile": name})
        return
    with pytest.raises(Exception, match=f"profile {name} serves with the bundled Triton"):
        render({"profile": name})


@pytest.mark.parametrize("values", [{}, CPU])
def test_the_door_takes_no_port_of_the_pod(values: dict[str, Any]) -> None:
    objects = render(values)
    taken = [port["containerPort"] for port in container(objects, "server")["ports"]]
    assert {
        f"{name}_port={port}" for name, port in zip(("http", "grpc", "metrics", "watch"), taken, strict=True)
    } <= set(settings(objects))
    for port in taken:
        with pytest.raises(Exception, match=f"door.port is {port}, where .* listens in the same pod"):
            render({**values, "door": {"port": port}})
        if not values:
            assert render({"door": {"enabled": False, "port": port}})


def test_what_leaves_a_pod_goes_to_the_collectors_and_to_the_dns_that_knows_them() -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"name": "traces"}}}]
    objects = render({"set": [TRACED], "networkPolicy": {"collectors": peers}})
    collectors, dns = objects["NetworkPolicy", "essay"]["spec"]["egress"]
    assert collectors == {"to": peers}
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    (peer,) = dns["to"]
    assert peer["podSelector"] and peer["namespaceSelector"]


def test_a_rollout_waits_for_no_gpu_and_takes_no_cpu_pod_away() -> None:
    for values, wanted in (({}, (0, 1)), (CPU, (1, 0)), ({"rollout": {"maxSurge": "25%"}}, ("25%", 1))):
        rolling = render(values)["Deployment", "essay"]["spec"]["strategy"]["rollingUpdate"]
        assert (rolling["maxSurge"], rolling["maxUnavailable"]) == wanted


@pytest.mark.parametrize("most", [0, 2, "0%", "30%", "100%"])
def test_the_budget_takes_numbers_and_percentages(most: int | str) -> None:
    budget = render({"disruptionBudget": {"maxUnavailable": most}})["PodDisruptionBudget", "essay"]
    assert budget["spec"]["maxUnavailable"] == most
    assert schemas.validate(budget, "1.29", strict=True)


def strings(text: str) -> dict[str, Any]:
    """Return values that have `text` wherever the schema takes any string."""
    return {
        "image": {"repository": text, "tag": text},
        "profile": text,
        "set": [f"threads={text}"],
        "repository": {"existingClaim": text},
        "door": {
            "image": {"repository": text, "tag": text},
            "tlsSecret": text,
            "tokensSecret": text,
            "clientCa": {"secret": text},
        },
        "audit": {"claim": text, "keySecret": text},
        "runtimeClassName": text,
        "nodeSelector": {"a": text},
        "podAnnotations": {"a": text},
        "metrics": {"serviceMonitor": True, "serviceMonitorLabels": {"a": text}},
    }


@pytest.mark.parametrize("text", NOT_YAML)
def test_a_string_stays_what_it_is(text: str) -> None:
    objects = render(strings(text))
    spec = pod(objects)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    secrets = {name: volumes[name]["secret"]["secretName"] for name in ("tls", "tokens", "client-ca")}
    claims = {name: volumes[name]["persistentVolumeClaim"]["claimName"] for name in ("repository", "audit")}
    server = container(objects, "server")
    found = [*secrets.values(), *claims.values(), spec["runtimeClassName"], spec["nodeSelector"]["a"]]
    found += [server["env"][1]["valueFrom"]["secretKeyRef"]["name"]]
    found += [objects["Deployment", "essay"]["spec"]["template"]["metadata"]["annotations"]["a"]]
    found += [objects["ServiceMonitor", "essay"]["metadata"]["labels"]["a"]]
    assert found == [text] * len(found)
    assert {f"--profile={text}", f"--set=threads={text}"} <= set(server["args"])
    assert server["image"] == container(objects, "door")["image"] == f"{text}:{text}"


@pytest.mark.parametrize("text", NOT_YAML)
def test_a_claim_has_the_class_that_was_asked_for(text: str) -> None:
    claim = render({"repository": {"storageClass": text}})["PersistentVolumeClaim", "essay-repository"]
    assert claim["spec"]["storageClassName"] == text


def keyed(objects: Objects) -> tuple[str, str, str]:
    (item,) = next(v["secret"]["items"] for v in pod(objects)["volumes"] if v["name"] == "client-ca")
    return item["key"], item["path"], container(objects, "server")["env"][1]["valueFrom"]["secretKeyRef"]["key"]


@pytest.mark.parametrize("key", ["123", "yes", "1e3", ".pem", "ca.crt"])
def test_a_secrets_key_stays_what_it_is(key: str) -> None:
    values = {"door": {"clientCa": {"secret": "s", "key": key}}, "audit": {"claim": "c", "keySecret": "s", "key": key}}
    assert keyed(render(values)) == (key,) * 3


@pytest.mark.parametrize("release", ["true", "yes", "null", "123"])
def test_a_releases_name_is_a_string_in_every_object(release: str) -> None:
    objects = render({"metrics": {"serviceMonitor": True}}, release)
    assert {
        name.removesuffix(end) for _, name in objects for end in ("-pods", "-door", "-repository") if name.endswith(end)
    } == {release}
    for (kind, name), one in objects.items():
        assert isinstance(name, str) and one["metadata"]["labels"]["app.kubernetes.io/instance"] == release
        if kind != "ServiceMonitor":
            assert schemas.validate(one, "1.37", strict=True)
