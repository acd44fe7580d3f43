"""The Python end of the tests for TLS.

tls.py serve PORT CERTIFICATE KEY [ALPN,...]          echoes one message of each connection
tls.py call PORT AUTHORITY NAME ALPN,... VERSION      sends one; NAME `-`: no server name
tls.py slow PORT CERTIFICATE KEY SECONDS               answers requests, each after SECONDS
tls.py ask PORT AUTHORITY NAME VERSION COUNT           sends requests, one after the other, and
                                                       prints the seconds that answers took
tls.py smtp PORT CERTIFICATE KEY                      a mail server with STARTTLS
tls.py mail PORT AUTHORITY NAME                       a mail with and one without STARTTLS
"""

import smtplib
import socket
import ssl
import sys
import threading
import time

MESSAGE = b"m" * 1000
# In several records, and in more segments than one.
ANSWER = b"a" * 40000


def listen(port):
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=64)
    while True:
        yield listener.accept()[0]


def server_context(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def serve(port, certificate, key, protocols=""):
    context = server_context(certificate, key)
    if protocols:
        context.set_alpn_protocols(protocols.split(","))

    def answer(connection):
        try:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.sendall(wrapped.recv(4096))
                wrapped.recv(1)
        except OSError:
            pass

    for connection in listen(port):
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def call(port, authority, name, protocols, version):
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(protocols.split(","))
    connection = socket.create_connection(("127.0.0.1", int(port)))
    with context.wrap_socket(connection, server_hostname=None if name == "-" else name) as wrapped:
        wrapped.sendall(MESSAGE)
        assert wrapped.recv(4096) == MESSAGE
        print(wrapped.version(), wrapped.cipher()[0], wrapped.selected_alpn_protocol())


def slow(port, certificate, key, seconds):
    context = server_context(certificate, key)

    def answer(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.settimeout(0.5)
            try:
                while True:
                    left = len(MESSAGE)
                    while left:
                        part = wrapped.recv(left)
                        if not part:
                            return
                        left -= len(part)
                    time.sleep(float(seconds))
                    wrapped.sendall(ANSWER[:1])
                    wrapped.sendall(ANSWER[1:])
            except TimeoutError:
                # An idle client is told good-bye, long after its last answer.
                wrapped.settimeout(5)
                wrapped.unwrap()

    for connection in listen(port):
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def ask(port, authority, name, version, count):
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    connection = socket.create_connection(("127.0.0.1", int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(connection, server_hostname=name) as wrapped:
        waited = 0
        for _ in range(int(count)):
            began = time.monotonic()
            # In two records: the first of them is as long as the Finished of TLS 1.3.
            wrapped.sendall(MESSAGE[:52])
            wrapped.sendall(MESSAGE[52:])
            left = len(ANSWER)
            while left:
                left -= len(wrapped.recv(left))
            waited += time.monotonic() - began
        print(waited)
        assert wrapped.recv(1) == b""
        wrapped.unwrap()


def smtp(port, certificate, key):
    context = server_context(certificate, key)

    def talk(connection):
        lines = connection.makefile("rb")
        say = lambda text: connection.sendall(text.encode() + b"\r\n")
        say("220 a.test ESMTP")
        while line := lines.readline():
            word = line.split()[0].upper()
            if word == b"EHLO":
                connection.sendall(b"250-a.test\r\n250-STARTTLS\r\n250 8BITMIME\r\n")
            elif word == b"STARTTLS":
                say("220 go ahead")
                connection = context.wrap_socket(connection, server_side=True)
                lines = connection.makefile("rb")
            elif word == b"DATA":
                say("354 go ahead")
                while lines.readline() not in (b".\r\n", b""):
                    pass
                say("250 taken")
            elif word == b"QUIT":
                say("221 bye")
                connection.close()
                return
            else:
                say("250 fine")

    for connection in listen(port):
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


def mail(port, authority, name):
    context = ssl.create_default_context(cafile=authority)
    for secure in (True, False):
        with smtplib.SMTP("127.0.0.1", int(port)) as client:
            # The name that is asked for in TLS.
            client._host = name
            client.ehlo("client.test")
            if secure:
                client.starttls(context=context)
                client.ehlo("client.test")
            client.sendmail("a@a.test", ["b@a.test"], "Subject: a\r\n\r\nGET / HTTP/1.1\r\n")
            print(client.sock.getsockname()[1])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
