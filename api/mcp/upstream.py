"""The one way from the adapter to the API: a GET with the caller's own token, bounded in all."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import anyio
import httpx2
import structlog

from api.mcp import exact

MOST_BYTES = 4 * 1024 * 1024
WHOLE_SECONDS = 30.0
_TIMEOUT = httpx2.Timeout(connect=3, read=20, write=5, pool=5)
_LIMITS = httpx2.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=20)
_LOST = (httpx2.ConnectError, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
_JSON = ("application/json", "application/problem+json")

# The caller's place in a trace (W3C), so that a slow query can be found from the agent's end.
TRACEPARENT: ContextVar[str | None] = ContextVar("traceparent", default=None)
log = structlog.get_logger()


class UnreachableError(Exception):
    """The API gave no answer that can be used; the text is for callers and says nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API said; `body` is parsed JSON, its numbers as `exact` keeps them."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Upstream:
    """The API at an address; one for the whole process."""

    def __init__(self, url: str) -> None:
        self.url = url
        # A proxy named in the environment knows nothing of this host's own addresses.
        self._client = httpx2.AsyncClient(
            base_url=url,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=not _is_loopback(httpx2.URL(url).host),
            headers={"Accept": "application/json", "User-Agent": "oversight-mcp"},
        )

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        token: str,
        etag: str | None = None,
    ) -> Answer:
        """The answer, whatever its status; an UnreachableError when there is none."""
        headers = {"Authorization": f"Bearer {token}"}
        if etag is not None:
            headers["If-None-Match"] = etag
        if (traceparent := TRACEPARENT.get()) is not None:
            headers["traceparent"] = traceparent
        request = self._client.build_request("GET", path, params=query, headers=headers)
        try:
            with anyio.fail_after(WHOLE_SECONDS):
                try:
                    return await self._answer(request)
                except _LOST:
                    # A kept connection ends with the worker that held it; reading again is safe.
                    return await self._answer(request)
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise self._lost(error, "did not answer in time") from error
        except httpx2.HTTPError as error:
            raise self._lost(error, "can't be reached") from error
        except ValueError as error:
            raise self._lost(error, "gave an answer that can't be read") from error

    async def _answer(self, request: httpx2.Request) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES} bytes")
        finally:
            await response.aclose()
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if response.status_code == 200 and kind not in _JSON:
            raise ValueError(f"an answer of type {kind!r}")
        is_json = kind in _JSON and bool(body)
        parsed = exact.loads(bytes(body)) if is_json else None
        return Answer(status=response.status_code, body=parsed, headers=response.headers)

    def _lost(self, error: Exception, what: str) -> UnreachableError:
        log.warning("api lost", url=self.url, what=what, error=str(error) or type(error).__name__)
        return UnreachableError(
            f"the Oversight API {what}; try again in a moment. If it goes on, OVERSIGHT_API_URL of"
            " this connection is wrong, or the API is not running"
        )


def unreadable() -> UnreachableError:
    """For an answer that is JSON but not of the form that the API's document says."""
    return UnreachableError("the Oversight API gave an answer that can't be read")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
