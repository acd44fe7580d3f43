"""A DNS server that fails as it is told by the first label of the name.

Arguments: its address. `servfail`: SERVFAIL. `mute`: nothing. `second`: nothing to the first question
of a client, SERVFAIL to the second. Anything else: NXDOMAIN.
"""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
listener = socket.create_server((sys.argv[1], 53))
seen = set()
while True:
    question, client = server.recvfrom(4096)
    label = question[13 : 13 + question[12]].decode().lower()
    if label == "mute":
        continue
    if label == "second" and client not in seen:
        seen.add(client)
        continue
    code = 2 if label in ("servfail", "second") else 3
    # The question alone, without what follows it.
    end = question.index(b"\0", 12) + 5
    head = question[:2] + bytes([0x81, 0x80 | code]) + b"\0\1" + bytes(6)
    server.sendto(head + question[12:end], client)
