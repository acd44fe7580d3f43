"""The Python end of the tests for gRPC: grpcio with messages that are the bytes they are.

rpc.py serve ADDRESS
rpc.py call ADDRESS ROUNDS  every kind of call; prints JSON lines of what it counted
rpc.py deadline ADDRESS     calls whose deadline passes
rpc.py trace ADDRESS        400 calls, of which every other one names a trace of its own
rpc.py phases ADDRESS       one channel; a line of standard input names each batch of calls
"""

import collections
import concurrent.futures
import json
import sys
import threading

import grpc

SERVICE = "observer.test.Echo"
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Service(grpc.GenericRpcHandler):
    """Answers by the name of the method, of any service."""

    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        if method == "Collect":
            return grpc.stream_unary_rpc_method_handler(collect)
        if method == "Expand":
            return grpc.unary_stream_rpc_method_handler(expand)
        if method == "Chat":
            return grpc.stream_stream_rpc_method_handler(chat)
        if method in ("Hang", "HangAfter"):
            return grpc.unary_stream_rpc_method_handler(hang)
        if method.startswith("Fail"):
            return grpc.unary_unary_rpc_method_handler(fail)
        if method.startswith("Break"):
            return grpc.unary_stream_rpc_method_handler(break_off)
        if method == "Unary" or method.startswith("Phase"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        return None


def collect(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def expand(request, context):
    for _ in range(int(request)):
        yield b"r" * 100


def chat(requests, context):
    yield from requests


def hang(request, context):
    for _ in range(int(request)):
        yield b"r"
    ended = threading.Event()
    if context.add_callback(ended.set):
        ended.wait(20)


def fail(request, context):
    context.abort(CODES[int(request)], "as asked: 100 %")


def break_off(request, context):
    yield b"r"
    yield b"r"
    context.abort(CODES[int(request)], "as asked")


def serve(address):
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(64), handlers=[Service()], options=[("grpc.so_reuseport", 0)]
    )
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


class Client:
    """Makes calls on one channel and counts them."""

    def __init__(self, address, counts):
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(address, options)
        self.counts = counts

    def count(self, method, status, sent, received, outcome="complete", service=SERVICE):
        key = {
            "method": "POST",
            "path": f"/{service}/{method}",
            "version": "2",
            "status": 200,
            "outcome": outcome,
            "rpc_system": "grpc",
            "rpc_service": service,
            "rpc_method": method,
            "rpc_status": status,
            "rpc_request_messages": sent,
            "rpc_response_messages": received,
        }
        if sent is None:
            del key["rpc_request_messages"]
        self.counts[json.dumps(key)] += 1

    def unary(self, size=32, method="Unary"):
        assert len(self.channel.unary_unary(f"/{SERVICE}/{method}")(b"q" * size)) == size
        self.count(method, "OK", 1, 1)

    def collect(self, messages):
        call = self.channel.stream_unary(f"/{SERVICE}/Collect")
        assert call(iter([b"q" * 100] * messages)) == b"%d" % (100 * messages)
        self.count("Collect", "OK", messages, 1)

    def expand(self, messages):
        received = len(list(self.channel.unary_stream(f"/{SERVICE}/Expand")(b"%d" % messages)))
        assert received == messages
        self.count("Expand", "OK", 1, received)

    def chat(self, messages):
        call = self.channel.stream_stream(f"/{SERVICE}/Chat")
        assert len(list(call(iter([b"q" * 200] * messages)))) == messages
        self.count("Chat", "OK", messages, messages)

    def fail(self, method, code):
        try:
            self.channel.unary_unary(f"/{SERVICE}/{method}")(b"%d" % code)
        except grpc.RpcError as error:
            assert error.code().value[0] == code, error
            self.count(method, error.code().name, 1, 0)

    def break_off(self, code):
        received = 0
        try:
            for _ in self.channel.unary_stream(f"/{SERVICE}/Break{code}")(b"%d" % code):
                received += 1
        except grpc.RpcError as error:
            assert error.code().value[0] == code, error
            self.count(f"Break{code}", error.code().name, 1, received)

    def unimplemented(self):
        try:
            self.channel.unary_unary(f"/{SERVICE}/Nothing")(b"q")
        except grpc.RpcError as error:
            # The server may answer the head before it has the message.
            self.count("Nothing", error.code().name, None, 0)

    def cancel(self):
        call = self.channel.unary_stream(f"/{SERVICE}/Hang")(b"3")
        received = 0
        for _ in call:
            received += 1
            if received == 3:
                call.cancel()
                break
        self.count("Hang", "CANCELLED", 1, received, "client_aborted")


def call(address, rounds):
    counts = collections.Counter()
    clients = [Client(address, counts) for _ in range(2)]

    def work(client):
        for number in range(rounds):
            client.unary()
            client.unary(100_000)
            client.collect(1 + number % 7)
            client.expand(number % 5)
            client.chat(1 + number % 9)
            client.unimplemented()
            client.cancel()
        for code in range(1, 17):
            client.fail(f"Fail{code}", code)
            client.break_off(code)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, client) for client in clients for _ in range(4)]:
            future.result()
    for client in clients:
        client.channel.close()
    tell(counts)


def deadline(address):
    """Calls whose deadline passes, before any response and after some."""
    counts = collections.Counter()
    client = Client(address, counts)
    for messages in (0, 2):
        received = 0
        try:
            for _ in client.channel.unary_stream(f"/{SERVICE}/HangAfter")(b"%d" % messages, timeout=0.3):
                received += 1
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
            print(json.dumps({"received": received}))
    client.channel.close()


def trace(address):
    counts = collections.Counter()
    client = Client(address, counts)
    method = client.channel.unary_unary(f"/{SERVICE}/Unary")

    def work(number):
        fields, told = [], {"trace_id": None, "trace_source": None}
        if number % 2:
            fields = [("traceparent", f"00-{number:032x}-{number:016x}-01"), ("tracestate", f"a={number}")]
            told = {
                "trace_id": f"{number:032x}",
                "trace_parent": f"{number:016x}",
                "trace_sampled": True,
                "trace_source": "tracecontext",
            }
        assert method(b"q", metadata=fields) == b"q"
        return json.dumps({"rpc_method": "Unary", "rpc_status": "OK", **told})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        counts.update(pool.map(work, range(400)))
    client.channel.close()
    tell(counts)


def phases(address):
    """Calls `PhaseNAME` 200 times on a channel that stays, for every line NAME."""
    counts = collections.Counter()
    client = Client(address, counts)
    client.unary()
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.unary(32, f"Phase{name}"), range(200)))
        print(name, flush=True)
    client.channel.close()
    tell(counts)


def tell(counts):
    for key, count in counts.items():
        print(json.dumps({**json.loads(key), "count": count}))


if __name__ == "__main__":
    mode, address = sys.argv[1], sys.argv[2]
    if mode == "serve":
        serve(address)
    elif mode == "call":
        call(address, int(sys.argv[3]))
    elif mode == "deadline":
        deadline(address)
    elif mode == "trace":
        trace(address)
    else:
        phases(address)
