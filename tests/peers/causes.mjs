// As `causes.py loop`, on Node's event loop: causes.mjs PORT BACKEND

import http from 'node:http';

const [port, backend] = process.argv.slice(2);
const [host, backendPort] = backend.split(':');
const agent = new http.Agent({ keepAlive: true });

function ask(method, path, body) {
  return new Promise((resolve, reject) => {
    const options = { agent, host, port: backendPort, method, path };
    const request = http.request(options, (response) => {
      response.resume().on('end', resolve);
    });
    request.on('error', reject).end(body);
  });
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const server = http.createServer(async (request, response) => {
  const id = Number(request.url.slice('/in/'.length));
  request.resume();
  for (let index = 0; index < 1 + (id % 3); index += 1) {
    await pause([0, 0, 1, 5][id % 4]);
    const post = (id + index) % 4 === 0;
    await ask(post ? 'POST' : 'GET', `/out/${id}/${index}`, post ? 'x'.repeat(3000) : undefined);
  }
  response.end('ok\n');
});
server.listen(Number(port), '127.0.0.1');

for (let number = 0; ; number += 1) {
  await ask('GET', `/out/background/${number}`);
  await pause(3);
}
