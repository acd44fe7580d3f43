"""A service that answers after it has asked others, and a client that asks it.

hop.py serve ADDRESS JOURNAL OPTIONS   HTTP/1.1, a thread for each connection
hop.py rpc ADDRESS JOURNAL OPTIONS     gRPC, any method of any service, a thread for each call
hop.py ask OPTIONS                     prints what it has asked for

A request for /hop/ID makes a service ask each of its `next` (http://ADDRESS, grpc://ADDRESS) for /hop/ID_0,
/hop/ID_1 and so on, so that every request of a test has a path of its own, and its path says what it
came from. By gRPC ID is the end of the method's name. JOURNAL gets a JSON line for each request that was answered.

Options of a service, as JSON:
name     its name
next     whom it asks, one after the other
forward  whether it hands on `traceparent` as it came
connect  `thread`: a connection for each thread; `pool`: what is free of those that all threads share;
         `new`: one for each request
workers  whether another thread of a few asks, and not the one that was asked

Options of the client:
url        whom it asks
first      prefix of all ids
count      requests of each thread
threads    threads, each with a connection
pipelined  requests in a write
new        a connection for each request
headers    whether it sends `traceparent`
pause      seconds after each write
"""

import concurrent.futures
import hashlib
import http.client
import http.server
import json
import queue
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

import grpc

SECRETS = {"Authorization": "Bearer secret-authorization", "Cookie": "id=secret-cookie"}


def context_of(name):
    """The trace and the span that the client says a request is part of."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return digest[:32], digest[32:48]


class Journal:
    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")
        self.lock = threading.Lock()

    def write(self, **line):
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


class Caller:
    """Asks others, over connections as it was told."""

    def __init__(self, options):
        self.options = options
        self.local = threading.local()
        self.free = {}
        self.lock = threading.Lock()
        self.channels = {}
        self.workers = concurrent.futures.ThreadPoolExecutor(4) if options.get("workers") else None

    def ask(self, number, ident, context):
        """Asks the next one of this number for `ident`, and returns the path of that."""
        if self.workers:
            return self.workers.submit(self.ask_here, number, ident, context).result()
        return self.ask_here(number, ident, context)

    def ask_here(self, number, ident, context):
        url = urlsplit(self.options["next"][number])
        if url.scheme == "grpc":
            path = f"/observer.test.Echo/Phase{ident}"
            metadata = (("traceparent", context),) if context else ()
            self.channel(url.netloc).unary_unary(path)(b"q", metadata=metadata, timeout=20)
            return path
        path = f"/hop/{ident}"
        headers = dict(SECRETS)
        if context:
            headers["traceparent"] = context
        kind = self.options.get("connect", "thread")
        connection = self.take(kind, number, url)
        connection.request("GET", path + "?secret-query=1", headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        self.give(kind, number, connection)
        return path

    def take(self, kind, number, url):
        if kind == "thread":
            kept = self.local.__dict__.setdefault("kept", {})
            if number not in kept:
                kept[number] = self.connect(url)
            return kept[number]
        if kind == "pool":
            with self.lock:
                free = self.free.setdefault(number, queue.SimpleQueue())
            try:
                return free.get_nowait()
            except queue.Empty:
                pass
        return self.connect(url)

    def give(self, kind, number, connection):
        if kind == "pool":
            self.free[number].put(connection)
        elif kind == "new":
            connection.close()

    def connect(self, url):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def channel(self, address):
        with self.lock:
            if address not in self.channels:
                self.channels[address] = grpc.insecure_channel(address)
            return self.channels[address]


class Service:
    def __init__(self, journal, options):
        self.journal, self.options = Journal(journal), options
        self.caller = Caller(options)

    def handle(self, ident, path, context):
        started = time.time_ns()
        handed = context if self.options.get("forward") else None
        calls = [
            self.caller.ask(number, f"{ident}_{number}", handed) for number in range(len(self.options.get("next", [])))
        ]
        self.journal.write(
            service=self.options["name"],
            path=path,
            thread=threading.get_native_id(),
            started=started,
            ended=time.time_ns(),
            calls=calls,
            traceparent=context,
        )


def serve(address, service):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            path = urlsplit(self.path).path
            service.handle(path.removeprefix("/hop/"), path, self.headers.get("traceparent"))
            body = b"done\n"
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def handle_error(self, request, client_address):
            pass

    host, port = address.rsplit(":", 1)
    Server((host, int(port)), Handler).serve_forever()


def serve_rpc(address, service):
    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            path = details.method
            if not path.startswith("/observer.test.Echo/Phase"):
                return None

            def answer(request, context):
                headers = dict(context.invocation_metadata())
                service.handle(path.partition("Phase")[2], path, headers.get("traceparent"))
                return request

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(16), handlers=[Handler()], options=[("grpc.so_reuseport", 0)]
    )
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def read_responses(stream, count):
    """Reads so many responses with a Content-Length."""
    data = b""
    while count:
        head, separator, rest = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if separator and len(rest) >= length:
            assert head.startswith(b"HTTP/1.1 200"), head
            data = rest[length:]
            count -= 1
            continue
        piece = stream.recv(65536)
        assert piece, "closed"
        data += piece
    assert not data, data


def ask(options):
    url = urlsplit(options["url"])
    printing = threading.Lock()

    def connect():
        stream = socket.create_connection((url.hostname, url.port), timeout=20)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def work(thread):
        depth = options.get("pipelined", 1)
        stream = None
        for number in range(0, options["count"], depth):
            if stream is None:
                stream = connect()
            text, lines = "", []
            for name in (f"{options['first']}x{thread}x{number + place}" for place in range(depth)):
                trace, span = context_of(name)
                text += f"GET /hop/{name}?secret-query=1 HTTP/1.1\r\nHost: {url.netloc}\r\n"
                text += "".join(f"{key}: {value}\r\n" for key, value in SECRETS.items())
                if options.get("headers"):
                    text += f"traceparent: 00-{trace}-{span}-01\r\n"
                text += "\r\n"
                lines.append({"path": f"/hop/{name}", "trace": trace, "span": span, "started": time.time_ns()})
            stream.sendall(text.encode())
            read_responses(stream, depth)
            with printing:
                for line in lines:
                    print(json.dumps({**line, "ended": time.time_ns()}))
            if options.get("new"):
                stream.close()
                stream = None
            time.sleep(options.get("pause", 0))
        if stream:
            stream.close()

    with concurrent.futures.ThreadPoolExecutor(options.get("threads", 1)) as pool:
        for future in [pool.submit(work, thread) for thread in range(options.get("threads", 1))]:
            future.result()


if sys.argv[1] == "serve":
    serve(sys.argv[2], Service(sys.argv[3], json.loads(sys.argv[4])))
elif sys.argv[1] == "rpc":
    serve_rpc(sys.argv[2], Service(sys.argv[3], json.loads(sys.argv[4])))
else:
    ask(json.loads(sys.argv[2]))
