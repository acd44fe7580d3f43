"""HTTP/1 server of the tests: every way to frame a response, and some ways to break one."""

import http.server
import socket
import struct
import sys
import time
from urllib.parse import urlsplit


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *arguments):
        pass

    def content(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def consume(self):
        length = int(self.headers.get("Content-Length", 0))
        while length > 0:
            length -= len(self.rfile.read(min(length, 65536)))

    def do_GET(self):
        path = urlsplit(self.path).path
        if path == "/hello":
            self.content(b"hello world\n")
        elif path.startswith("/bytes/"):
            self.content(b"x" * int(path.rsplit("/", 1)[1]))
        elif path.startswith("/status/"):
            self.content(b"", int(path.rsplit("/", 1)[1]))
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Sum")
            self.end_headers()
            for size in (1, 10, 1000, 40000):
                self.wfile.write(b"%x;extension=\"a;b\"\r\n" % size + b"y" * size + b"\r\n")
            self.wfile.write(b"0\r\nX-Sum: 41011\r\n\r\n")
        elif path.startswith("/chunked/"):
            # So many KiB in chunks of 8 KiB, in one write: segments are as large as they get.
            count = int(path.removeprefix("/chunked/")) // 8
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            chunk = b"2000\r\n" + b"y" * 8192 + b"\r\n"
            self.wfile.write(chunk * count + b"0\r\n\r\n")
        elif path == "/close":
            self.protocol_version = "HTTP/1.0"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"z" * 5000)
            self.close_connection = True
        elif path == "/empty":
            self.send_response(204)
            self.end_headers()
        elif path == "/unchanged":
            self.send_response(304)
            self.send_header("Content-Length", "1000")
            self.end_headers()
        elif path.startswith("/slow/"):
            time.sleep(int(path.rsplit("/", 1)[1]) / 1000)
            self.content(b"late\n")
        elif path == "/upgrade":
            self.send_response_only(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "echo")
            self.end_headers()
            self.echo()
        elif path == "/reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            self.close_connection = True
        else:
            self.content(b"nothing here\n", 404)

    do_HEAD = do_GET

    def do_POST(self):
        if urlsplit(self.path).path == "/early":
            self.content(b"no\n", 413)
            self.wfile.flush()
            self.consume()
        else:
            self.consume()
            self.content(b"stored\n")

    do_PUT = do_POST

    def do_CONNECT(self):
        self.send_response_only(200)
        self.end_headers()
        self.echo()

    def echo(self):
        self.wfile.flush()
        while piece := self.connection.recv(65536):
            self.connection.sendall(piece)
        self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        pass

    def shutdown_request(self, request):
        try:
            super().shutdown_request(request)
        except OSError:
            pass


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
