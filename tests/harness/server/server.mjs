// HTTP/1 server of the tests on Node: plain, chunked, echoed and upgraded.

import { createServer } from "node:http";

const server = createServer((request, response) => {
  const path = request.url.split("?")[0];
  request.on("error", () => {});
  if (path === "/hello") {
    response.setHeader("Content-Length", 12);
    response.end("hello world\n");
  } else if (path === "/chunked") {
    for (const size of [1, 10, 1000, 40000]) response.write("y".repeat(size));
    response.end();
  } else if (path === "/echo") {
    let length = 0;
    request.on("data", (piece) => (length += piece.length));
    request.on("end", () => response.end(`${length}\n`));
  } else {
    response.statusCode = 404;
    response.end("nothing here\n");
  }
});

server.on("upgrade", (request, socket) => {
  socket.on("error", () => {});
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
  socket.pipe(socket);
});

server.listen(Number(process.argv[2]), "127.0.0.1");
