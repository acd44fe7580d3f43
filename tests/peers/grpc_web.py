"""A client of gRPC-Web over HTTP/1.1: grpc_web.py ADDRESS prints JSON lines of what it counted."""

import base64
import collections
import http.client
import json
import sys

SERVICE = "observer.test.Echo"


def messages(content):
    """Messages before the trailers, and the status in these."""
    count, status = 0, None
    while content:
        flags, length = content[0], int.from_bytes(content[1:5], "big")
        body, content = content[5 : 5 + length], content[5 + length :]
        if flags & 0x80:
            fields = dict(line.split(b":", 1) for line in body.split(b"\r\n") if line)
            status = int(fields[b"grpc-status"])
        else:
            count += 1
    return count, status


NAMES = {0: "OK", 5: "NOT_FOUND", 12: "UNIMPLEMENTED", 14: "UNAVAILABLE"}


def main(address):
    connection = http.client.HTTPConnection(address)
    counts = collections.Counter()
    for number in range(20):
        for method, content, text in [
            ("Unary", b"q" * 40, False),
            ("Unary", b"q" * 41, True),
            ("Expand", b"%d" % (number % 4), False),
            ("Expand", b"%d" % (number % 4), True),
            ("Fail5", b"5", False),
            ("Nothing", b"q", False),
        ]:
            body = b"\0" + len(content).to_bytes(4, "big") + content
            kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
            fields = {"Content-Type": kind, "Accept": kind, "X-Grpc-Web": "1"}
            connection.request("POST", f"/{SERVICE}/{method}", base64.b64encode(body) if text else body, fields)
            response = connection.getresponse()
            content = response.read()
            if text:
                content = decode(content)
            received, status = messages(content)
            if status is None:
                # Trailers-only: the status is in the head.
                status = int(response.headers["grpc-status"])
            key = {
                "method": "POST",
                "path": f"/{SERVICE}/{method}",
                "version": "1.1",
                "status": response.status,
                "outcome": "complete",
                "rpc_system": "grpc-web",
                "rpc_service": SERVICE,
                "rpc_method": method,
                "rpc_status": NAMES[status],
                "rpc_request_messages": 1,
                "rpc_response_messages": received,
            }
            if method == "Nothing":
                # Behind the proxy the server may answer the head before it has the message.
                del key["rpc_request_messages"]
            counts[json.dumps(key)] += 1
    for key, count in counts.items():
        print(json.dumps({**json.loads(key), "count": count}))


def decode(content):
    """Base64 of several pieces, each with padding of its own."""
    out = b""
    for start in range(0, len(content), 4):
        out += base64.b64decode(content[start : start + 4])
    return out


if __name__ == "__main__":
    main(sys.argv[1])
