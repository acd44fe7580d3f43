"""Services that answer a request by making others, and the client that asks them.

    causes.py threads PORT BACKEND    a thread for each connection, which waits in its reads
    causes.py handing PORT BACKEND    the same, but other threads make the requests and answer
    causes.py loop PORT BACKEND       asyncio
    causes.py ask ADDRESS FIRST CLIENTS REQUESTS
    causes.py pipeline ADDRESS FIRST CLIENTS REQUESTS
    causes.py steadily ADDRESS FIRST CLIENTS REQUESTS

A request for /in/ID makes one to three for /out/ID/N, so that paths tell which caused which. Beside
that a service asks for /out/background/N all the time. PORT is on 127.0.0.1, BACKEND and ADDRESS
are HOST:PORT. `ask` keeps CLIENTS connections, each of REQUESTS requests, with ids from FIRST on;
`pipeline` sends three of them at a time, `steadily` at most fifty a second.
"""

import asyncio
import concurrent.futures
import http.client
import http.server
import itertools
import queue
import random
import socket
import sys
import threading
import time


def outbound(number):
    """Method, path and content of what request `number` makes, in order."""
    for index in range(1 + number % 3):
        post = (number + index) % 4 == 0
        yield "POST" if post else "GET", f"/out/{number}/{index}", b"x" * 3000 if post else b""


def pause(number):
    """Seconds that request `number` waits before each that it makes."""
    return random.Random(number).choice([0, 0, 0.001, 0.005])


# A thread for each connection.


class Pool:
    """Connections that whoever needs one takes."""

    def __init__(self, address):
        self.address, self.free = address, queue.LifoQueue()

    def ask(self, method, path, body):
        try:
            connection = self.free.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(self.address)
        connection.request(method, path, body or None)
        connection.getresponse().read()
        self.free.put(connection)


workers = concurrent.futures.ThreadPoolExecutor(32)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.hands_over:
            workers.submit(self.work).result()
        else:
            self.work()

    def work(self):
        number = self.path.removeprefix("/in/")
        if number.isdigit():
            for method, path, body in outbound(int(number)):
                time.sleep(pause(int(number)))
                self.server.pool.ask(method, path, body)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")
        self.wfile.flush()

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Threads(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def threads(port, backend, hands_over):
    server = Threads(("127.0.0.1", port), Handler)
    server.hands_over = hands_over
    server.pool = Pool(backend)

    def background():
        for number in itertools.count():
            server.pool.ask("GET", f"/out/background/{number}", b"")
            time.sleep(0.003)

    threading.Thread(target=background, daemon=True).start()
    server.serve_forever()


# An event loop.


async def message(reader):
    """The first line of the next message, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    for line in head.lower().split("\r\n"):
        if line.startswith("content-length:"):
            await reader.readexactly(int(line.split(":")[1]))
    return head.split("\r\n")[0]


class LoopPool:
    def __init__(self, address):
        self.address, self.free = address, []

    async def ask(self, method, path, body):
        if self.free:
            reader, writer = self.free.pop()
        else:
            reader, writer = await asyncio.open_connection(*self.address.split(":"))
        head = f"{method} {path} HTTP/1.1\r\nHost: backend\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        await message(reader)
        self.free.append((reader, writer))


async def loop(port, backend):
    pool = LoopPool(backend)

    async def serve(reader, writer):
        try:
            while True:
                number = (await message(reader)).split(" ")[1].removeprefix("/in/")
                if number.isdigit():
                    for method, path, body in outbound(int(number)):
                        await asyncio.sleep(pause(int(number)))
                        await pool.ask(method, path, body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def background():
        for number in itertools.count():
            await pool.ask("GET", f"/out/background/{number}", b"")
            await asyncio.sleep(0.003)

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=128)
    task = asyncio.create_task(background())
    await server.serve_forever()
    await task


# The client.


def pipelined(address, numbers):
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        answers = connection.makefile("rb")
        for at in range(0, len(numbers), 3):
            batch = numbers[at : at + 3]
            heads = [f"GET /in/{number} HTTP/1.1\r\nHost: service\r\n\r\n" for number in batch]
            connection.sendall("".join(heads).encode())
            for _ in batch:
                while answers.readline() != b"\r\n":
                    pass
                answers.read(len("ok\n"))


def ask(address, first, clients, requests, kind):
    failed = []

    def run(start):
        if kind == "pipeline":
            pipelined(address, range(start, start + requests))
            return
        connection = http.client.HTTPConnection(address)
        for number in range(start, start + requests):
            post = number % 5 == 0
            body = b"y" * 20000 if post else None
            connection.request("POST" if post else "GET", f"/in/{number}", body)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                failed.append(number)
            time.sleep(0.02 if kind == "steadily" else 0)

    runs = [
        threading.Thread(target=run, args=(first + index * requests,)) for index in range(clients)
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    if failed:
        sys.exit(f"failed: {failed}")


if __name__ == "__main__":
    kind, place = sys.argv[1:3]
    if kind in ("threads", "handing"):
        threads(int(place), sys.argv[3], kind == "handing")
    elif kind == "loop":
        asyncio.run(loop(int(place), sys.argv[3]))
    else:
        ask(place, *map(int, sys.argv[3:]), kind)
