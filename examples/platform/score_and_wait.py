"""Scores two responses and waits for a person's decision, which comes by webhook: python score_and_wait.py

Needs `pip install httpx standardwebhooks`. SCOREMUX_URL and SCOREMUX_TOKEN say where the API is, and who calls.
"""

import json
import os
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

token = os.environ.get("SCOREMUX_TOKEN")
api = httpx.Client(
    base_url=os.environ.get("SCOREMUX_URL", "http://127.0.0.1:8005"),
    headers={"Authorization": f"Bearer {token}"} if token else {},
    timeout=60,
)
events, run = [], uuid.uuid4().hex[:8]


def call(method, path, body=None, **headers):
    answer = api.request(method, path, json=body, headers=headers)
    if answer.is_error:  # a problem; where it is retryable, Retry-After says when
        raise SystemExit(f"{answer.status_code}: {answer.json()['detail']}")
    return answer.json() if answer.content else None


class Receiver(BaseHTTPRequestHandler):
    """Takes events; an event may come again, with the same webhook-id."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            Webhook(webhook["secret"]).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_response(400)
        else:
            events.append(json.loads(body))
            self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
webhook = call("POST", "/v1/webhooks", {"url": f"http://127.0.0.1:{server.server_port}/", "events": ["row.final"]})

# Ids are new in each run; the sandbox takes the outcome from their beginning.
rows = [
    {"id": f"machine-{run}", "task": "sandbox-1", "text": "It hands out addresses."},
    {"id": f"human-{run}", "task": "sandbox-1", "text": "It gives every device its address."},
]
scored = call("POST", "/v1/score", {"rows": rows}, **{"Idempotency-Key": run})["rows"]
for row in scored:
    print(row["id"], row["status"], "level", row["level"], row["route"])

waiting = {(row["task"], row["id"]) for row in scored if (row["route"] or "").startswith("human")}
while waiting:
    server.handle_request()
    while events:
        event = events.pop()["data"]
        if (event["task"], event["id"]) in waiting:  # other events of the token come, too
            waiting.remove((event["task"], event["id"]))
            row = call("GET", f"/v1/rows/{event['task']}/{event['id']}")
            print(row["id"], row["state"], "level", event["level"])
call("DELETE", f"/v1/webhooks/{webhook['id']}")
