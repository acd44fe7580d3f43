"""A server of HTTP/1.1 that takes its time.

slow.py ADDRESS PORT SECONDS   answers every request after SECONDS
"""

import http.server
import socket
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is one segment.
    wbufsize = -1

    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def do_GET(self):
        time.sleep(self.server.seconds)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


address, port, seconds = sys.argv[1:]
server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
server.seconds = float(seconds)
server.serve_forever()
