"""An HTTP/2 client that writes its frames by itself, in ways that libraries do not.

frames.py MODE PORT     prints JSON lines of what it counted

split         every byte in a segment of its own
continuation  heads of 60 KiB in many CONTINUATION frames
padding       padded HEADERS and DATA, with priority, and PRIORITY frames between
interleaved   bodies of many streams in turns, a frame of each
tables        a header table that is resized, emptied and evicted from
connect       extended CONNECT (RFC 8441) with data both ways
"""

import collections
import json
import socket
import sys
import time

import hpack
from hyperframe import frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 1 << 24


class Connection:
    """A connection that keeps its own state of HPACK and counts what its responses say."""

    def __init__(self, port, piece=None, pause=0.0):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.piece, self.pause = piece, pause
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.received = b""
        self.streams = {}
        self.number = 1
        self.counts = collections.Counter()
        settings = frame.SettingsFrame(0)
        settings.settings = {
            frame.SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW,
            frame.SettingsFrame.ENABLE_PUSH: 0,
        }
        update = frame.WindowUpdateFrame(0, window_increment=WINDOW)
        self.write(PREFACE + settings.serialize() + update.serialize())
        # The server's settings are acknowledged before anything else.
        while self.step() != "settings":
            pass

    def write(self, data):
        if self.piece is None:
            self.socket.sendall(data)
            return
        for start in range(0, len(data), self.piece):
            self.socket.sendall(data[start : start + self.piece])
            time.sleep(self.pause)

    def head(self, method, path, extra=(), protocol=None):
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")]
        if protocol:
            fields.insert(1, (":protocol", protocol))
        return self.encoder.encode(fields + list(extra))

    def open(self, method, path, body=0):
        number, self.number = self.number, self.number + 2
        self.streams[number] = {"method": method, "path": path, "sent": body, "got": 0, "status": None, "ended": False}
        return number

    def ask(self, method, path, body=0, extra=(), split=None, padding=0, priority=False):
        """Sends a whole request; `split` is the size of the fragments of its head."""
        number = self.open(method, path, body)
        block = self.head(method, path, extra)
        split = split or 16384
        first = frame.HeadersFrame(number, block[:split])
        if padding:
            first.flags.add("PADDED")
            first.pad_length = padding
        if priority:
            first.flags.add("PRIORITY")
            first.depends_on, first.stream_weight, first.exclusive = 0, 15, True
        rest = [block[start : start + split] for start in range(split, len(block), split)]
        if not rest:
            first.flags.add("END_HEADERS")
        if not body:
            first.flags.add("END_STREAM")
        out = first.serialize()
        for position, fragment in enumerate(rest):
            more = frame.ContinuationFrame(number, fragment)
            if position == len(rest) - 1:
                more.flags.add("END_HEADERS")
            out += more.serialize()
        if priority:
            out += frame.PriorityFrame(number, depends_on=0, stream_weight=200).serialize()
        self.write(out)
        sent = 0
        while sent < body:
            length = min(8000, body - sent)
            sent += length
            self.data(number, length, sent == body, padding)
        return number

    def data(self, number, length, last, padding=0):
        piece = frame.DataFrame(number, b"q" * length)
        if padding:
            piece.flags.add("PADDED")
            piece.pad_length = padding
        if last:
            piece.flags.add("END_STREAM")
        self.write(piece.serialize())

    def step(self):
        """Reads one frame and answers what has to be answered."""
        while len(self.received) < 9:
            self.more()
        parsed, length = frame.Frame.parse_frame_header(memoryview(self.received[:9]))
        while len(self.received) < 9 + length:
            self.more()
        body, self.received = self.received[9 : 9 + length], self.received[9 + length :]
        parsed.parse_body(memoryview(body))
        stream = self.streams.get(parsed.stream_id)
        if isinstance(parsed, frame.SettingsFrame):
            if "ACK" in parsed.flags:
                return "acknowledged"
            size = parsed.settings.get(frame.SettingsFrame.HEADER_TABLE_SIZE)
            if size is not None:
                self.encoder.header_table_size = min(size, self.encoder.header_table_size)
            acknowledged = frame.SettingsFrame(0)
            acknowledged.flags.add("ACK")
            self.write(acknowledged.serialize())
            return "settings"
        if isinstance(parsed, frame.PingFrame) and "ACK" not in parsed.flags:
            answer = frame.PingFrame(0, parsed.opaque_data)
            answer.flags.add("ACK")
            self.write(answer.serialize())
        if isinstance(parsed, (frame.HeadersFrame, frame.ContinuationFrame)):
            self.block = getattr(self, "block", b"") + parsed.data
            if "END_HEADERS" in parsed.flags:
                fields = dict(self.decoder.decode(self.block))
                self.block = b""
                status = fields.get(":status")
                if status and int(status) >= 200:
                    stream["status"] = int(status)
        if isinstance(parsed, frame.DataFrame):
            stream["got"] += len(parsed.data)
        if isinstance(parsed, frame.RstStreamFrame):
            raise SystemExit(f"stream {parsed.stream_id} was reset: {parsed.error_code}")
        if isinstance(parsed, frame.GoAwayFrame):
            raise SystemExit(f"the server goes away: {parsed.error_code} {parsed.additional_data}")
        if stream and "END_STREAM" in parsed.flags:
            stream["ended"] = True
        return parsed.stream_id

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise SystemExit("the server closed")
        self.received += data

    def finish(self, *numbers):
        """Waits for the ends of these streams, or of all."""
        for number in numbers or list(self.streams):
            while not self.streams[number]["ended"]:
                self.step()

    def tell(self, outcome="complete"):
        """Prints the exchanges and closes."""
        self.socket.close()
        for stream in self.streams.values():
            key = {
                "method": stream["method"],
                "path": stream["path"],
                "version": "2",
                "status": stream["status"],
                "outcome": outcome if stream["method"] == "CONNECT" else "complete",
                # A tunnel is told when it begins; what passes through it is no content.
                "request_body_bytes": 0 if stream["method"] == "CONNECT" else stream["sent"],
                "response_body_bytes": 0 if stream["method"] == "CONNECT" else stream["got"],
            }
            self.counts[json.dumps(key)] += 1
        for key, count in self.counts.items():
            print(json.dumps({**json.loads(key), "count": count}))


def split(port):
    connection = Connection(port, piece=1, pause=0.0002)
    for number in range(8):
        connection.ask("GET", f"/hello/{number}")
        connection.ask("POST", "/echo", 50)
        if number % 2:
            connection.finish()
    connection.finish()
    connection.tell()


def continuation(port):
    connection = Connection(port)
    for number in range(6):
        extra = [(f"x-long-{index}", "v" * 997) for index in range(60)]
        connection.ask("GET", f"/hello/{number}", 0, extra, split=(16384, 3000, 500, 100, 16384, 1200)[number])
        connection.ask("POST", "/echo", 3000, extra[: number + 1], split=7)
        connection.finish()
    connection.tell()


def padding(port):
    connection = Connection(port)
    for number in range(10):
        connection.ask("GET", f"/hello/{number}", 0, padding=number * 25, priority=number % 2 == 0)
        connection.ask("POST", "/echo", 20000, padding=255, priority=True)
        connection.finish()
    connection.tell()


def interleaved(port):
    connection = Connection(port)
    for _ in range(3):
        numbers = []
        for index in range(12):
            number = connection.open("POST", f"/echo/{index}", 24000)
            head = frame.HeadersFrame(number, connection.head("POST", f"/echo/{index}"))
            head.flags.add("END_HEADERS")
            connection.write(head.serialize())
            numbers.append(number)
        for part in range(8):
            for number in numbers:
                connection.data(number, 3000, part == 7)
            connection.finish() if part == 7 else time.sleep(0.001)
    connection.tell()


def tables(port):
    connection = Connection(port)
    for number, size in enumerate([4096, 0, 100, 4096, 256, 4096]):
        connection.encoder.header_table_size = size
        for index in range(10):
            # More entries than any of the tables holds.
            extra = [(f"x-entry-{number}-{index}-{entry}", "v" * 20) for entry in range(12)]
            connection.ask("GET", f"/hello/{index}", 0, extra)
            connection.ask("POST", "/echo", 10, extra)
        connection.finish()
    connection.tell()


def connect(port):
    connection = Connection(port)
    for _ in range(3):
        number = connection.open("CONNECT", "/socket", 3000)
        head = frame.HeadersFrame(number, connection.head("CONNECT", "/socket", protocol="websocket"))
        head.flags.add("END_HEADERS")
        connection.write(head.serialize())
        while connection.streams[number]["status"] is None:
            connection.step()
        for part in range(3):
            connection.data(number, 1000, part == 2)
        connection.finish(number)
        assert connection.streams[number]["got"] == 3000
        # The connection goes on as before.
        connection.ask("POST", "/echo", 10)
        connection.finish()
    connection.tell("tunnel")


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
