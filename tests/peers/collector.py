"""A collector of OpenTelemetry, independent of any of its SDKs' code: it receives OTLP by gRPC and by
HTTP, and writes all that it is sent as JSON lines.

collector.py GRPC HTTP FOLDER [--certificate FILE --key FILE [--clients FILE]] [--header NAME=VALUE]

Every request becomes a line of FOLDER/received, followed by a line for each span, point of a metric and
log record in it. Its message, as it was sent, is FOLDER/NUMBER.bin. A line of standard input is a JSON object
that tells how to answer from then on, and is answered by `ok`:

delay   seconds to wait before an answer
status  name of a gRPC status to refuse with (by HTTP the status that means the same)
retry   seconds that a refusal asks to wait: RetryInfo, or Retry-After
reject  how many of the items of a request are said to be rejected (partial success)
times   how many requests are answered so, those after them as usual; without, all
"""

import argparse
import concurrent.futures
import gzip
import http.server
import json
import os
import ssl
import sys
import threading
import time

import grpc
from google.protobuf import duration_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

SPAN_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES = ("UNSET", "OK", "ERROR")
TEMPORALITIES = ("UNSPECIFIED", "DELTA", "CUMULATIVE")
# What a status of gRPC is as one of HTTP (OTLP, section "OTLP/HTTP Response").
HTTP_STATUSES = {
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
    "DEADLINE_EXCEEDED": 504,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "UNIMPLEMENTED": 404,
    "INTERNAL": 500,
}


def value(any_value):
    """An AnyValue as what it is, in a list with the name of its type."""
    kind = any_value.WhichOneof("value")
    if kind is None:
        return ["empty", None]
    inner = getattr(any_value, kind)
    kind = kind.removesuffix("_value")
    if kind == "array":
        return [kind, [value(item) for item in inner.values]]
    if kind == "kvlist":
        return [kind, attributes(inner.values)]
    if kind == "bytes":
        return [kind, inner.hex()]
    return [kind, inner]


def attributes(pairs):
    found = {}
    for pair in pairs:
        # Keys have to be unique (OTLP, `KeyValue`).
        found[pair.key if pair.key not in found else pair.key + " again"] = value(pair.value)
    return found


def scope(group):
    return {"scope": {"name": group.scope.name, "version": group.scope.version, "schema": group.schema_url}}


def of_resource(group):
    return {"resource": attributes(group.resource.attributes), "schema": group.schema_url}


def spans(message):
    for resource in message.resource_spans:
        for group in resource.scope_spans:
            for span in group.spans:
                yield {
                    "kind": "span",
                    **of_resource(resource),
                    **scope(group),
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "flags": span.flags,
                    "name": span.name,
                    "span_kind": SPAN_KINDS[span.kind],
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": attributes(span.attributes),
                    "status": STATUSES[span.status.code],
                    "message": span.status.message,
                    "events": [
                        {"name": event.name, "time": event.time_unix_nano, "attributes": attributes(event.attributes)}
                        for event in span.events
                    ],
                    "links": [
                        {
                            "trace": link.trace_id.hex(),
                            "id": link.span_id.hex(),
                            "state": link.trace_state,
                            "flags": link.flags,
                            "attributes": attributes(link.attributes),
                        }
                        for link in span.links
                    ],
                }


def exemplar(found):
    return {
        "trace": found.trace_id.hex(),
        "id": found.span_id.hex(),
        "time": found.time_unix_nano,
        "value": getattr(found, found.WhichOneof("value") or "as_double"),
        "attributes": attributes(found.filtered_attributes),
    }


def optional(point, name):
    return getattr(point, name) if point.HasField(name) else None


def numbers(point, form):
    """What a point of this form tells."""
    if form in ("gauge", "sum"):
        kind = point.WhichOneof("value")
        return {"value": getattr(point, kind) if kind else None, "exemplars": [exemplar(e) for e in point.exemplars]}
    told = {"count": point.count, "sum": point.sum}
    if form == "summary":
        return told
    told |= {
        "sum": optional(point, "sum"),
        "min": optional(point, "min"),
        "max": optional(point, "max"),
        "exemplars": [exemplar(found) for found in point.exemplars],
    }
    if form == "histogram":
        return told | {"bounds": list(point.explicit_bounds), "counts": list(point.bucket_counts)}
    return told | {
        "scale": point.scale,
        "zero_count": point.zero_count,
        "zero_threshold": point.zero_threshold,
        "offset": point.positive.offset,
        "counts": list(point.positive.bucket_counts),
        "negative": list(point.negative.bucket_counts),
    }


def points(message):
    for resource in message.resource_metrics:
        for group in resource.scope_metrics:
            for metric in group.metrics:
                form = metric.WhichOneof("data")
                data = getattr(metric, form)
                for point in data.data_points:
                    yield {
                        "kind": "point",
                        **of_resource(resource),
                        **scope(group),
                        "name": metric.name,
                        "unit": metric.unit,
                        "description": metric.description,
                        "form": form,
                        "temporality": TEMPORALITIES[getattr(data, "aggregation_temporality", 0)],
                        "monotonic": getattr(data, "is_monotonic", None),
                        "attributes": attributes(point.attributes),
                        "start": point.start_time_unix_nano,
                        "time": point.time_unix_nano,
                        "flags": point.flags,
                        **numbers(point, form),
                    }


def records(message):
    for resource in message.resource_logs:
        for group in resource.scope_logs:
            for record in group.log_records:
                yield {
                    "kind": "log",
                    **of_resource(resource),
                    **scope(group),
                    "time": record.time_unix_nano,
                    "observed": record.observed_time_unix_nano,
                    "severity": record.severity_number,
                    "severity_text": record.severity_text,
                    "body": value(record.body),
                    "event": record.event_name,
                    "trace": record.trace_id.hex(),
                    "id": record.span_id.hex(),
                    "flags": record.flags,
                    "attributes": attributes(record.attributes),
                }


class Signal:
    """One of the three: its messages, and how to take them apart."""

    def __init__(self, request, response, partial, rejected, items):
        self.request, self.items = request, items
        self.response, self.partial, self.rejected = response, partial, rejected

    def answer(self, rejected):
        if not rejected:
            return self.response()
        partial = self.partial(error_message="as asked")
        setattr(partial, self.rejected, rejected)
        return self.response(partial_success=partial)


SIGNALS = {
    "traces": Signal(
        traces.ExportTraceServiceRequest,
        traces.ExportTraceServiceResponse,
        traces.ExportTracePartialSuccess,
        "rejected_spans",
        spans,
    ),
    "metrics": Signal(
        metrics.ExportMetricsServiceRequest,
        metrics.ExportMetricsServiceResponse,
        metrics.ExportMetricsPartialSuccess,
        "rejected_data_points",
        points,
    ),
    "logs": Signal(
        logs.ExportLogsServiceRequest,
        logs.ExportLogsServiceResponse,
        logs.ExportLogsPartialSuccess,
        "rejected_log_records",
        records,
    ),
}
METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}


class Book:
    """Writes down what comes, and knows how to answer."""

    def __init__(self, folder, header):
        self.folder = folder
        self.lines = open(os.path.join(folder, "received"), "a", encoding="utf-8")
        self.lock = threading.Lock()
        # One that was here before has left its messages.
        self.number = sum(name.endswith(".bin") for name in os.listdir(folder))
        self.header = header
        self.manner = {}

    def behave(self, manner):
        with self.lock:
            self.manner = manner

    def receive(self, name, body, headers, **more):
        """Takes a request and returns how it is to be answered, and the answer if it is taken."""
        signal = SIGNALS[name]
        received = time.time_ns()
        with self.lock:
            manner = self.manner
            if "times" in manner:
                manner["times"] -= 1
                if manner["times"] <= 0:
                    self.manner = {}
            manner = dict(manner)
            self.number += 1
            number = self.number
        if manner.get("delay"):
            time.sleep(manner["delay"])
        if self.header and headers.get(self.header[0]) != self.header[1]:
            manner = {"status": "UNAUTHENTICATED"}
        try:
            message = signal.request.FromString(body)
            items = list(signal.items(message))
        except Exception as error:  # Whatever is wrong with it, the sender is told and a test sees it.
            items, manner = [], {"status": "INVALID_ARGUMENT"}
            more["error"] = repr(error)
        status = manner.get("status", "OK")
        request = {
            "kind": "request",
            "number": number,
            "signal": name,
            "status": status,
            "received": received,
            "bytes": len(body),
            "items": len(items),
            "rejected": manner.get("reject", 0),
            "headers": headers,
            **more,
        }
        with self.lock:
            with open(os.path.join(self.folder, f"{number}.bin"), "wb") as file:
                file.write(body)
            for line in [request, *items]:
                line.update(number=number, taken=status == "OK")
                self.lines.write(json.dumps(line) + "\n")
            self.lines.flush()
        return manner, signal.answer(manner.get("reject", 0))


def retry_info(status, seconds):
    """The metadata of a refusal that asks to wait: google.rpc.Status with google.rpc.RetryInfo."""
    wait = duration_pb2.Duration()
    wait.FromNanoseconds(int(seconds * 1e9))
    info = field(1, wait.SerializeToString())
    details = field(1, b"type.googleapis.com/google.rpc.RetryInfo") + field(2, info)
    code = getattr(grpc.StatusCode, status).value[0]
    return (("grpc-status-details-bin", bytes([0x08, code]) + field(3, details)),)


def field(number, content):
    """A field of protobuf with fewer than 128 bytes."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


class Rpc(grpc.GenericRpcHandler):
    def __init__(self, book):
        self.book = book

    def service(self, details):
        name = METHODS.get(details.method)
        if name is None:
            return None

        def export(body, context):
            headers = {key: text for key, text in context.invocation_metadata() if isinstance(text, str)}
            manner, answer = self.book.receive(name, body, headers, transport="grpc", peer=context.peer())
            status = manner.get("status")
            if status:
                if "retry" in manner:
                    context.set_trailing_metadata(retry_info(status, manner["retry"]))
                context.abort(getattr(grpc.StatusCode, status), "as asked")
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(export)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    book = None

    def log_message(self, *arguments):
        pass

    def content(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def do_POST(self):
        body = self.content()
        wire = len(body)
        name = self.path.removeprefix("/v1/")
        kind = self.headers.get("Content-Type", "")
        if name not in SIGNALS:
            return self.answer(404, b"")
        if kind != "application/x-protobuf":
            return self.answer(415, b"")
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding:
            return self.answer(415, b"")
        headers = {key.lower(): text for key, text in self.headers.items()}
        manner, answer = self.book.receive(
            name, body, headers, transport="http", encoding=encoding, wire=wire, version=self.request_version
        )
        status = manner.get("status")
        if not status:
            return self.answer(200, answer.SerializeToString())
        more = {"Retry-After": str(manner["retry"])} if "retry" in manner else {}
        return self.answer(HTTP_STATUSES[status], b"", more)

    def answer(self, status, body, more=()):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        for key, text in dict(more).items():
            self.send_header(key, text)
        self.end_headers()
        self.wfile.write(body)


class Http(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("grpc")
    parser.add_argument("http")
    parser.add_argument("folder")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--clients")
    parser.add_argument("--header")
    options = parser.parse_args()
    book = Book(options.folder, options.header and options.header.split("=", 1))

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(16),
        handlers=[Rpc(book)],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
    )
    if options.certificate:
        pair = [(read(options.key), read(options.certificate))]
        clients = options.clients and read(options.clients)
        credentials = grpc.ssl_server_credentials(pair, clients or None, bool(clients))
        server.add_secure_port(options.grpc, credentials)
    else:
        server.add_insecure_port(options.grpc)
    server.start()

    Handler.book = book
    address, port = options.http.rsplit(":", 1)
    web = Http((address, int(port)), Handler)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        if options.clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.clients)
        # With the handshake in the thread of a connection, a client that makes none holds up nobody.
        web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=web.serve_forever, daemon=True).start()

    print("ready", flush=True)
    for line in sys.stdin:
        book.behave(json.loads(line))
        print("ok", flush=True)
    server.stop(None)
    os._exit(0)


main()
