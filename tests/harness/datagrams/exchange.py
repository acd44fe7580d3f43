"""Two sockets of one process that exchange datagrams, and count them.

Arguments: address of the one that is asked, port, how many datagrams, seed, options: `connect` (the
asker is connected), `segment` (several leave as one packet, UDP_SEGMENT, and come as one, UDP_GRO).
Prints datagrams and bytes that the asker sent and received.
"""

import random
import socket
import sys
import time

UDP_SEGMENT, UDP_GRO = 103, 104
address, port, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
options = sys.argv[5:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
asked = socket.socket(family, socket.SOCK_DGRAM)
asked.bind((address, port))
asker = socket.socket(family, socket.SOCK_DGRAM)
for end in (asked, asker):
    end.settimeout(5)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
if "connect" in options:
    asker.connect((address, port))
dice = random.Random(seed)
sent = [0, 0]
received = [0, 0]


def ask(payload):
    if "connect" in options:
        asker.send(payload)
    else:
        asker.sendto(payload, (address, port))


if "segment" in options:
    asker.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    asked.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    for _ in range(count):
        payload = bytes(dice.randrange(1, 30_000))
        ask(payload)
        sent[0] += -(-len(payload) // 1000)
        sent[1] += len(payload)
        left = len(payload)
        while left:
            left -= len(asked.recv(65536))
else:
    for _ in range(count):
        payload = bytes(dice.choice((0, 1, dice.randrange(1400), dice.randrange(9000))))
        ask(payload)
        sent[0] += 1
        sent[1] += len(payload)
        echo, client = asked.recvfrom(65536)
        if dice.random() < 0.5:
            asked.sendto(echo * 2, client)
            received[0] += 1
            received[1] += len(asker.recv(65536))
print(*sent, *received)
# Whose sockets they were can be looked at for a moment.
time.sleep(0.5)
