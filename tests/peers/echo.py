"""A protocol that nobody knows: the client sends bytes that are no text, and gets them back.

echo.py serve ADDRESS PORT
echo.py call ADDRESS PORT CONNECTIONS  each sends three times
"""

import socket
import socketserver
import sys

BYTES = bytes(range(1, 200))


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while received := self.request.recv(65536):
            self.request.sendall(received)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def call(address):
    with socket.create_connection(address, timeout=20) as connection:
        for _ in range(3):
            connection.sendall(BYTES)
            received = b""
            while len(received) < len(BYTES):
                piece = connection.recv(65536)
                assert piece, "closed"
                received += piece
            assert received == BYTES


def main():
    verb, host, port, *rest = sys.argv[1:]
    address = (host, int(port))
    if verb == "serve":
        Server(address, Echo).serve_forever()
    for _ in range(int(rest[0])):
        call(address)


main()
