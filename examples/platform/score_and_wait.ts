// Scores two responses; waits for a person's decision and its correction, which come by webhook: node score_and_wait.ts
// Needs Node 22.18 or later, and no package. SCOREMUX_URL and SCOREMUX_TOKEN say where the API is, and who calls.
import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

type Scored = { id: string; task: string; status: string; level: number | null; route: string | null };
type Decided = { type: string; data: { id: string; task: string; level: number | null; score: number | null } };

const url = process.env.SCOREMUX_URL ?? "http://127.0.0.1:8005";
const token = process.env.SCOREMUX_TOKEN;

async function call(method: string, path: string, body?: unknown, more: Record<string, string> = {}): Promise<any> {
  const headers = { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}), ...more };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  if (answer.status === 204) return null;
  const values = await answer.json();
  if (answer.ok) return values;
  // An error is a problem (RFC 9457); where it is retryable, such as 429 and 503, Retry-After says when.
  if (!values.retryable) throw new Error(`${answer.status}: ${values.detail}`);
  await new Promise((goesOn) => setTimeout(goesOn, 1000 * Number(answer.headers.get("retry-after"))));
  return call(method, path, body, more);
}

// Standard Webhooks: HMAC-SHA-256 of id, time and body. While a secret changes, there are two signatures.
function isSigned(secret: string, headers: IncomingHttpHeaders, body: string): boolean {
  const [id, time] = [headers["webhook-id"], headers["webhook-timestamp"]];
  if (Math.abs(Date.now() / 1000 - Number(time)) > 300) return false;
  const key = Buffer.from(secret.replace("whsec_", ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${time}.${body}`).digest();
  return String(headers["webhook-signature"]).split(" ").some((signature) => {
    const given = Buffer.from(signature.replace("v1,", ""), "base64");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

const run = randomUUID().slice(0, 8);
// Ids are new in each run; the sandbox takes the outcome from their beginning: `limited` is refused once with 429.
const rows = [
  { id: `limited-${run}`, task: "sandbox-1", text: "It hands out addresses." },
  { id: `corrected-${run}`, task: "sandbox-1", text: "It gives every device its address.", student: "s-1", keep: { region: "north" } },
];
const events = ["row.final", "row.corrected"];
const keys = rows.flatMap((row) => events.map((type) => `${type} ${row.task}/${row.id}`));
const decisions = new Map(keys.map((key) => [key, Promise.withResolvers<Decided>()]));

let secret = "";
const server = createServer(async (request, answer) => {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  if (!isSigned(secret, request.headers, body)) return answer.writeHead(400).end();
  const event: Decided = JSON.parse(body); // it may come again, with the same webhook-id
  decisions.get(`${event.type} ${event.data.task}/${event.data.id}`)?.resolve(event);
  answer.writeHead(204).end();
});
await new Promise<void>((listens) => server.listen(0, "127.0.0.1", listens));
const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
const webhook = await call("POST", "/v1/webhooks", { url: address, events });
secret = webhook.secret;

const scored: Scored[] = (await call("POST", "/v1/score", { rows }, { "idempotency-key": run })).rows;
for (const row of scored) console.log(row.id, row.status, "level", row.level, row.route);

for (const row of scored.filter((row) => row.route?.startsWith("human"))) {
  for (const type of events) {
    const { data } = await decisions.get(`${type} ${row.task}/${row.id}`)!.promise;
    console.log(row.id, type, "level", data.level, "score", data.score);
  }
}
await call("DELETE", `/v1/webhooks/${webhook.id}`);
server.close();
