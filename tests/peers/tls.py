"""The Python end of the tests for TLS.

tls.py serve PORT CERTIFICATE KEY [ALPN,...]          echoes one message of each connection
tls.py call PORT AUTHORITY NAME ALPN,... VERSION      sends one; NAME `-`: no server name
tls.py smtp PORT CERTIFICATE KEY                      a mail server with STARTTLS
tls.py mail PORT AUTHORITY NAME                       a mail with and one without STARTTLS
"""

import smtplib
import socket
import ssl
import sys
import threading

MESSAGE = b"m" * 1000


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
