"""Scores 5,000 responses and waits for a person's decision: python score_and_wait.py

Needs `pip install httpx`. SCOREMUX_URL and SCOREMUX_TOKEN say where the API is, and who calls.
"""

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx

token = os.environ.get("SCOREMUX_TOKEN")
api = httpx.Client(
    base_url=os.environ.get("SCOREMUX_URL", "http://127.0.0.1:8005"),
    headers={"Authorization": f"Bearer {token}"} if token else {},
    timeout=90,
)


def call(method, path, **more):
    while True:
        answer = api.request(method, path, **more)
        if answer.is_success:
            return answer.json()
        problem = answer.json()
        if not problem["retryable"]:
            raise SystemExit(f"{answer.status_code}: {problem['detail']}")
        time.sleep(int(answer.headers["retry-after"]))


run = uuid.uuid4().hex[:8]
# Ids are new in each run; the sandbox takes the outcome from their beginning: `limited` is refused once with 429.
kinds = {0: "limited", 1: "human"}
ids = [f"{kinds.get(n, 'machine')}-{run}-{n}" for n in range(5000)]
rows = [{"id": name, "task": "sandbox-1", "text": "It hands out addresses."} for name in ids]
requests = [{"rows": rows[n : n + 512]} for n in range(0, len(rows), 512)]
with ThreadPoolExecutor(4) as threads:  # four requests at once
    answers = threads.map(lambda body: call("POST", "/v1/score", json=body), requests)
    scored = [row for answer in answers for row in answer["rows"]]
print(len(scored), "rows scored")

waiting = {row["id"] for row in scored if (row["route"] or "").startswith("human")}
params = {"wait": 30}
while waiting:
    page = call("GET", "/v1/changes", params=params)
    params["after"] = page["cursor"]  # a platform stores the cursor with the changes
    for change in page["changes"]:
        if change["id"] in waiting:
            waiting.remove(change["id"])
            print(change["id"], change["type"], "level", change["level"])
