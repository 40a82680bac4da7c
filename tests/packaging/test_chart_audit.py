"""The chart's audit log: on a claim that outlives the pods, with a key out of a secret."""

from __future__ import annotations

import re

from charts import CPU, Objects, container, pod, render, settings
from scoremux_engine.audit.settings import KEY_VARIABLE
from scoremux_server.profile import Profile

AUDIT = {"claim": "answers", "keySecret": "audit-key", "key": "hmac"}


def variables(objects: Objects) -> dict[str, dict[str, dict[str, str]]]:
    return {one["name"]: one["valueFrom"] for one in container(objects, "server").get("env", [])}


def audit_log(objects: Objects, name: str) -> str:
    """Return the file of the pod called `name`, as Kubernetes writes variables into arguments."""
    (given,) = (one for one in settings(objects) if one.startswith("audit_log="))
    values = {
        variable: {"metadata.name": name}[source["fieldRef"]["fieldPath"]]
        for variable, source in variables(objects).items()
        if "fieldRef" in source
    }
    expanded = re.sub(r"[$][(](\w+)[)]", lambda found: values[found[1]], given)
    return Profile.read("cpu", [expanded]).audit_log


def test_each_pod_writes_a_file_of_its_own_on_the_claim() -> None:
    objects = render({**CPU, "audit": AUDIT})
    (volume,) = [one for one in pod(objects)["volumes"] if one["name"] == "audit"]
    assert volume["persistentVolumeClaim"] == {"claimName": "answers"}
    (mount,) = [one for one in container(objects, "server")["volumeMounts"] if one["name"] == "audit"]
    files = {audit_log(objects, name) for name in ("essay-1", "essay-2")}
    assert files == {f"{mount['mountPath']}/essay-1.jsonl", f"{mount['mountPath']}/essay-2.jsonl"}
    assert "audit" not in {one["name"] for one in container(objects, "door")["volumeMounts"]}


def test_the_key_comes_out_of_a_secret() -> None:
    assert variables(render({"audit": AUDIT}))[KEY_VARIABLE] == {"secretKeyRef": {"name": "audit-key", "key": "hmac"}}
    assert KEY_VARIABLE not in variables(render({"audit": {"claim": "answers"}}))
    assert "hmac" not in str(settings(render({"audit": AUDIT})))


def test_the_rest_of_the_audit_log_is_set_as_ever() -> None:
    objects = render({"audit": AUDIT, "set": ["audit_when_full=continue", "audit_rotate_bytes=1000000"]})
    profile = Profile.read("gpu-onnx", settings(objects))
    assert (profile.audit_when_full, profile.audit_rotate_bytes) == ("continue", 1_000_000)


def test_without_a_claim_there_is_none() -> None:
    objects = render({})
    assert variables(objects) == {} and not [one for one in settings(objects) if one.startswith("audit")]
    assert "audit" not in {one["name"] for one in pod(objects)["volumes"]}
