// Scores 5,000 responses and waits for a person's decision: node score_and_wait.ts
// Needs Node 22.18 or later, and no package. SCOREMUX_URL and SCOREMUX_TOKEN say where the API is, and who calls.
type Scored = { id: string; route: string | null };
type Change = { type: string; id: string | null; level: number | null };

const url = process.env.SCOREMUX_URL ?? "http://127.0.0.1:8005";
const token = process.env.SCOREMUX_TOKEN;

async function call(method: string, path: string, body?: unknown): Promise<any> {
  const headers = { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  const values = await answer.json();
  if (answer.ok) return values;
  // An error is a problem (RFC 9457); where it is retryable, such as 429 and 503, Retry-After says when.
  if (!values.retryable) throw new Error(`${answer.status}: ${values.detail}`);
  await new Promise((goesOn) => setTimeout(goesOn, 1000 * Number(answer.headers.get("retry-after"))));
  return call(method, path, body);
}

const run = crypto.randomUUID().slice(0, 8);
// Ids are new in each run; the sandbox takes the outcome from their beginning: `limited` is refused once with 429.
const rows = Array.from({ length: 5000 }, (_, n) => ({
  id: `${["limited", "human"][n] ?? "machine"}-${run}-${n}`, task: "sandbox-1", text: "It hands out addresses.",
}));
const scored: Scored[] = [];
async function send(): Promise<void> {
  while (rows.length) scored.push(...(await call("POST", "/v1/score", { rows: rows.splice(0, 512) })).rows);
}
await Promise.all([send(), send(), send(), send()]); // four requests at once
console.log(scored.length, "rows scored");

const waiting = new Set(scored.filter((row) => row.route?.startsWith("human")).map((row) => row.id));
for (let after = ""; waiting.size; ) {
  const page: { changes: Change[]; cursor: string } = await call("GET", `/v1/changes?wait=30${after}`);
  after = `&after=${page.cursor}`; // a platform stores the cursor with the changes
  for (const { id, type, level } of page.changes)
    if (id && waiting.delete(id)) console.log(id, type, "level", level);
}
