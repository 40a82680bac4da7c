"""A decision at the desk reaches its platform although the API is killed while it delivers."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from desks import Work
from receivers import receiving
from routed import api_process
from waiting import until


@pytest.mark.nightly
def test_a_decision_is_delivered_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = tmp_path / "reviews.db"
    with receiving(tmp_path) as (receiver, authority):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with api_process(str(name), tmp_path) as (client, process):
            url = receiver.url("/hangs", "localhost")
            webhook = client.post("/v1/webhooks", json={"url": url, "events": ["row.final"]}).json()
            row = {"id": "r1", "task": "t-1", "text": "unsure"}
            assert client.post("/v1/score", json={"rows": [row]}).json()["rows"][0]["route"] == "human:LOW_CONFIDENCE"
            work = Work.open(name, anna="rater")
            with closing(work.database):
                lease = work.take("anna")
                work.decide("anna", lease.token, 2, wait_s=0)
            until(lambda: receiver.came)
            process.send_signal(signal.SIGKILL)
            process.wait()
        receiver.release.set()
        with api_process(str(name), tmp_path) as (client, _):
            (delivery,) = client.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["deliveries"]
            assert (delivery["state"], delivery["attempts"]) == ("waiting", 0)
            until(lambda: client.get(f"/v1/webhooks/{webhook['id']}/deliveries?state=delivered").json()["deliveries"])
            assert client.get("/v1/rows/t-1/r1").json()["state"] == "final"
    assert receiver.ids("/hangs") == [delivery["id"]] * 2
    _, headers, body = receiver.came[1]
    assert Webhook(webhook["secret"]).verify(body, headers)["data"] == json.loads(body)["data"] == delivery["data"]
    assert delivery["data"] == {"task": "t-1", "id": "r1", "level": 2, "condition": None,
                                "reason": "LOW_CONFIDENCE", "machine_level": 1}  # fmt: skip
