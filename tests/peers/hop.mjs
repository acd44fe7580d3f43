// A service that answers after it has asked others, as hop.py: all requests in one thread, by turns.
//
// node hop.mjs HOST PORT JOURNAL OPTIONS

import { appendFileSync } from "node:fs";
import { Agent, createServer, get } from "node:http";

const [host, port, journal, text] = process.argv.slice(2);
const options = JSON.parse(text);
const secrets = { Authorization: "Bearer secret-authorization", Cookie: "id=secret-cookie" };
const agent = new Agent({ keepAlive: options.connect !== "new", maxSockets: 8 });

function ask(base, ident, context) {
  const path = `/hop/${ident}`;
  const headers = context ? { ...secrets, traceparent: context } : secrets;
  return new Promise((resolve, reject) => {
    const request = get(`${base}${path}?secret-query=1`, { agent, headers }, (response) => {
      response.on("end", () => (response.statusCode === 200 ? resolve(path) : reject(new Error(path))));
      response.resume();
    });
    request.on("error", reject);
  });
}

const server = createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  const ident = path.slice("/hop/".length);
  const context = request.headers.traceparent ?? null;
  const started = Date.now() * 1e6;
  const calls = [];
  try {
    for (const [number, base] of (options.next ?? []).entries())
      calls.push(await ask(base, `${ident}_${number}`, options.forward ? context : null));
  } catch (error) {
    response.writeHead(502).end(String(error));
    return;
  }
  const line = { service: options.name, path, thread: process.pid, started, ended: Date.now() * 1e6 };
  appendFileSync(journal, JSON.stringify({ ...line, calls, traceparent: context }) + "\n");
  response.setHeader("Content-Length", 5);
  response.end("done\n");
});
server.keepAliveTimeout = 60000;
server.listen(Number(port), host);
