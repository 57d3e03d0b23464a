"""The REST port: metrics and model status."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from grpc import StatusCode
from tensorflow_serving.apis import get_model_status_pb2

from tests.tfserving.manager import Manager, State
from tests.tfserving.metrics import Metrics
from tests.tfserving.status import CODES, StatusError, invalid

METRICS_PATH = "/monitoring/prometheus/metrics"
STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?")
HTTP = {StatusCode.INVALID_ARGUMENT: 400, StatusCode.NOT_FOUND: 404}


def serve(host: str, port: int, manager: Manager, metrics: Metrics, metrics_path: str | None) -> int:
    """Serve in threads; return the port. Metrics have a path only where they are on."""

    def answer(path: str) -> tuple[int, str, str]:
        if path == metrics_path:
            return 200, "text/plain", metrics.text()
        try:
            return 200, "application/json", _status(manager, path)
        except StatusError as error:
            return HTTP[error.code], "application/json", json.dumps({"error": error.text}, indent=1)

    server = ThreadingHTTPServer((host, port), _handler(answer))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="rest", daemon=True).start()
    return server.server_address[1]


def _handler(answer: Callable[[str], tuple[int, str, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            code, kind, text = answer(self.path.partition("?")[0])
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


def _status(manager: Manager, path: str) -> str:
    asked = STATUS.fullmatch(path)
    if asked is None:
        raise invalid(f"Malformed request: GET {path}")
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = asked[1]
    if asked[2]:
        request.model_spec.version.value = int(asked[2])
    statuses = [
        {
            "version": str(status.version),
            "state": State.Name(status.state),
            "status": {
                "error_code": CODES[status.status.error_code].name,
                "error_message": status.status.error_message,
            },
        }
        for status in manager.statuses(request.model_spec)
    ]
    return json.dumps({"model_version_status": statuses}, indent=1)
