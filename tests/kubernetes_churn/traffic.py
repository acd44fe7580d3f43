"""All that runs in a pod: answers with its uid, calls others, and notes what it knows to be true.

    traffic.py UID LOG PORT [keep|once ADDRESS PORT SECONDS]...

Every call has a path of its own: what is noted by it on both ends is about the same call.
"""

import os
import signal
import socket
import sys
import threading
import time

UID, LOG, PORT = sys.argv[1:4]
CALLS = sys.argv[4:]
LOG = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
PATIENCE = 1
END = b"\r\n\r\n"
stopping = threading.Event()


def note(*words):
    # One write each: also the last one before the end is whole.
    os.write(LOG, (" ".join(map(str, words)) + "\n").encode())


def message(connection, rest):
    """The next head, with what follows it; None at the end."""
    while END not in rest:
        data = connection.recv(65536)
        if not data:
            return None, b""
        rest += data
    head, rest = rest.split(END, 1)
    return head, rest


def serve(connection):
    rest = b""
    with connection:
        while not stopping.is_set():
            try:
                head, rest = message(connection, rest)
                if head is None:
                    return
                note("served", head.split(b" ", 2)[1].decode(), UID)
                body = UID.encode()
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
                connection.sendall(answer % (len(body), body))
            except OSError:
                return


def listen():
    listener = socket.create_server(("0.0.0.0", int(PORT)), backlog=128)
    note("listening", UID)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def ask(connection, path, last):
    local = "%s:%d" % connection.getsockname()
    remote = "%s:%d" % connection.getpeername()
    note("asked", path, UID, local, remote)
    close = "Connection: close\r\n" if last else ""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {remote}\r\n{close}\r\n".encode())
    head, body = message(connection, b"")
    if head is None:
        raise OSError("closed")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        data = connection.recv(65536)
        if not data:
            raise OSError("closed")
        body += data
    note("answered", path, body.decode())


def call(number, mode, address, port, seconds):
    connection, count = None, 0
    while not stopping.is_set():
        count += 1
        try:
            if connection is None:
                connection = socket.create_connection((address, int(port)), PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Also a connection that is kept ends at last: others are balanced anew.
            last = mode == "once" or count % 40 == 0
            ask(connection, f"/{UID}/{number}/{count}", last)
            if last:
                connection.close()
                connection = None
        except OSError:
            if connection is not None:
                connection.close()
            connection = None
        stopping.wait(float(seconds))


signal.signal(signal.SIGTERM, lambda *_: stopping.set())
threading.Thread(target=listen, daemon=True).start()
for number in range(0, len(CALLS), 4):
    threading.Thread(target=call, args=(number // 4, *CALLS[number : number + 4]), daemon=True).start()
while not stopping.wait(0.2):
    pass
# What is under way may end.
time.sleep(0.05)
os._exit(0)
