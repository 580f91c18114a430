// Publishes and reads through the types that openapi-typescript has made, with openapi-fetch. Run by checks.py.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };
const [baseUrl, token, topic] = process.argv.slice(2) as [string, string, string];
const queue = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const path = { topic };

function sure<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

sure(await queue.POST("/topics", { body: { topic } }));
sure(await queue.POST("/topics/{topic}/messages", { params: { path }, body: { payloads: [1] } }));
const body = { payloads: [{ a: 2 }, 3], keys: ["k", null], headers: [{ h: 1 }, null] };
const published = sure(await queue.POST("/topics/{topic}/messages", { params: { path }, body }));
console.log("published", published.first_offset);
for (const message of sure(await queue.GET("/topics/{topic}/messages", { params: { path } })).messages) {
  const headers: unknown = message.headers ? message.headers["h"] : "-";
  console.log(message.offset, message.key ?? "-", headers, JSON.stringify(message.payload), !isNaN(Date.parse(message.published_at)));
}
const made = sure(await queue.POST("/topics/{topic}/subscribers", { params: { path }, body: { subscriber: "s" } }));
const one = { path: { topic, subscriber: made.subscriber } };
sure(await queue.POST("/topics/{topic}/subscribers/{subscriber}/seek", { params: one, body: { offset: 1 } }));
const route = "/topics/{topic}/subscribers/{subscriber}/messages";
const fetched = sure(await queue.GET(route, { params: { ...one, query: { limit: 1 } } }));
const done = { offset: fetched.messages[0]!.offset, epoch: fetched.epoch };
const acked = sure(await queue.POST("/topics/{topic}/subscribers/{subscriber}/ack", { params: one, body: done }));
console.log("position", acked.position);
const mine = "/topics/{topic}/subscribers/{subscriber}";
sure(await queue.PATCH(mine, { params: one, body: { max_attempts: 1 } }));
const leased = sure(await queue.POST(`${mine}/leases`, { params: one, body: { worker: "w" } }));
const message = leased.messages[0]!;
console.log("leased", message.offset, message.attempt, !isNaN(Date.parse(leased.expires_at!)));
const its = { path: { ...one.path, lease: leased.lease! } };
const buried = sure(await queue.POST(`${mine}/leases/{lease}/nack`, { params: its, body: { error: "no" } })).dead;
const letter = sure(await queue.GET(`${mine}/dead`, { params: one })).dead[0]!;
console.log("dead", buried, letter.offset, letter.payload, letter.reason, letter.error);
console.log("removed", sure(await queue.DELETE(`${mine}/dead`, { params: one, body: {} })).removed);
const refused = await queue.GET("/topics/{topic}/messages", { params: { path: { topic: "nowhere" } } });
console.log(refused.error?.code);
console.log(sure(await queue.GET("/topics")).topics.some((found) => found.topic === topic));
const metrics: string = sure(await queue.GET("/metrics", { parseAs: "text" }));
console.log(sure(await queue.GET("/health")).status, metrics.includes("queue_requests_total"));
console.log(sure(await queue.GET("/openapi.json"))["openapi"]);
