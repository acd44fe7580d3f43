"""Asks a DNS server for the address of a name, again and again by the same question.

Arguments: address of the server, name, how often. Prints how many responses came.
"""

import socket
import sys

address, name, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
question = b"\x12\x34\1\0\0\1" + bytes(6) + labels + b"\0\0\1\0\1"
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.2)
responses = 0
for _ in range(times):
    client.sendto(question, (address, 53))
    try:
        client.recv(4096)
        responses += 1
    except TimeoutError:
        pass
print(responses)
