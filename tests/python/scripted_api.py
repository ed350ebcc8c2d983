"""An API of one mart that answers as a test says: slow, broken, long, or as a good one."""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASE = "/api/reporting/v1"
WAIT_SECONDS = 30
Reply = tuple[int, str, bytes, dict[str, str]]
_PAGE = {
    "type": "object",
    "required": ["data", "next_page"],
    "properties": {
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/row"}},
        "next_page": {"type": ["string", "null"]},
    },
}


def _operation(name: str, schema: dict[str, Any], *parameters: str) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "description": f"{name}.",
            "parameters": [
                {
                    "in": "query",
                    "name": parameter,
                    "schema": {"type": "integer" if parameter == "page_size" else "string"},
                }
                for parameter in parameters
            ],
            "responses": {"200": {"content": {"application/json": {"schema": schema}}}},
        }
    }


DOCUMENT = {
    "paths": {
        f"{BASE}/wide-mart": _operation("get_wide_mart", _PAGE, "partner_id", "page", "page_size"),
        f"{BASE}/marts": _operation("list_marts", {"type": "object", "properties": {}}),
        f"{BASE}/metadata/refresh": _operation("get_refresh", {"type": "object"}),
        "/api/admin/backfills/{id}": _operation("get_backfill", {"type": "object"}, "id"),
    },
    "components": {"schemas": {"row": {"type": "object", "properties": {"number": {}}}}},
}


def json_reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """An answer of JSON."""
    kind = "application/json" if status == 200 else "application/problem+json"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, kind, json.dumps(body).encode(), names


@dataclass
class ScriptedApi:
    """Serves until `stop`."""

    port: int = 0
    replies: dict[str, Callable[[dict[str, str]], Reply | None]] = field(default_factory=dict)
    """What answers the query of a path; None as an answer means never."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Of the newest request."""
    given_up: threading.Event = field(default_factory=threading.Event)
    """Set when a caller has gone that was not answered."""

    def __post_init__(self) -> None:
        api = self
        self.replies = {
            "/openapi.json": lambda _: json_reply(DOCUMENT),
            f"{BASE}/marts": lambda _: json_reply({"data": [{"path": f"{BASE}/wide-mart"}]}),
            **self.replies,
        }

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                address = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(address.query).items()}
                api.requests.append((address.path, query))
                api.headers = {name.lower(): value for name, value in self.headers.items()}
                reply = api.replies[address.path](query)
                if reply is None:
                    select.select([self.connection], [], [], WAIT_SECONDS)
                    api.given_up.set()
                    self.close_connection = True
                    return
                status, kind, body, headers = reply
                self.send_response(status)
                for name, value in {"Content-Type": kind, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
