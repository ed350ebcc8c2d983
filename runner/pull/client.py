"""Asking an engine: at its pace, again when that may help, and never with half an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import tenacity
import urllib3
from requests.auth import AuthBase
from tenacity.wait import wait_base

from runner.pull.access import Access
from runner.pull.errors import PassingError, PullError
from warehouse.endpoints import Endpoint

_MAX_REDIRECTS = 5
_READ_BYTES = 1 << 16
_SHOWN_CHARACTERS = 200
_PASSING_STATUS = (408, 425, 429)
_Read = TypeVar("_Read")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long a failing engine is asked again."""

    attempts: int = 6
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30
    longest_asked_seconds: float = 300


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer; `is_bounded` when it said how long it is, so that it can't have been cut.

    `hide` takes the secret out of a text of it that is to be shown.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    is_bounded: bool
    hide: Callable[[str], str]


class _Header(AuthBase):
    """Sends the secret; being requests' auth, it also keeps a .netrc from taking its place."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access.header is not None:
            request.headers[self._access.header] = self._access.value or ""
        return request


class _Wait(wait_base):
    """As long as the engine asks, else longer each time, with some jitter."""

    def __init__(self, patience: Patience) -> None:
        first = patience.first_wait_seconds
        self._grows = tenacity.wait_exponential(
            multiplier=first, max=patience.longest_wait_seconds
        ) + tenacity.wait_random(0, first)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, PassingError) and error.wait_seconds is not None:
            return error.wait_seconds
        return self._grows(retry_state)


class Client:
    """Asks one engine; `wait` sleeps, and raises when the run is to end."""

    def __init__(
        self, access: Access, *, patience: Patience, wait: Callable[[float], None]
    ) -> None:
        self._access = access
        self._patience = patience
        self._wait = wait
        self._next_at = 0.0
        self._session = requests.Session()
        self._session.auth = _Header(access)
        self._session.headers["User-Agent"] = "oversight"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def ask(
        self,
        endpoint: Endpoint,
        parameters: Mapping[str, str],
        *,
        what: str,
        read: Callable[[Answer], _Read],
    ) -> _Read:
        """One answer as `read` understands it; `what` says in errors what it is.

        A PassingError, of `read` too, is tried again; when it stays, it is a PullError.
        """
        url = self._access.base_url + endpoint.path
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=tenacity.stop_after_attempt(self._patience.attempts),
            wait=_Wait(self._patience),
            sleep=self._wait,
        )
        try:
            return attempts(lambda: read(self._get(url, endpoint, parameters)))
        except tenacity.RetryError as failed:
            reason = failed.last_attempt.exception()
            message = f"{reason}, {self._patience.attempts} times"
        except (PullError, requests.RequestException) as error:
            message = str(error)
        raise PullError(
            self._access.hide(f"{what} from {_shown(url, parameters)}: {message}; nothing landed")
        )

    def _get(self, url: str, endpoint: Endpoint, parameters: Mapping[str, str]) -> Answer:
        for _ in range(_MAX_REDIRECTS + 1):
            self._keep_pace(endpoint)
            deadline = time.monotonic() + endpoint.timeout_seconds
            try:
                with self._session.get(
                    url,
                    params=dict(parameters),
                    headers={"Accept-Encoding": _encodings(endpoint)},
                    stream=True,
                    allow_redirects=False,
                    timeout=endpoint.timeout_seconds,
                ) as response:
                    if response.is_redirect:
                        url, parameters = self._redirected(response), {}
                        continue
                    self._check_status(response)
                    body = _body(response, endpoint, deadline)
            except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as e:
                raise PassingError(_reason(e)) from e
            except ValueError as error:
                # requests itself looks at where an answer redirects to.
                raise PullError(
                    f"its address, or the one it redirects to, is none: {error}"
                ) from error
            return Answer(
                url=url,
                headers=response.headers,
                body=body,
                is_bounded="Content-Length" in response.headers
                or response.headers.get("Transfer-Encoding", "").lower() == "chunked",
                hide=self._access.hide,
            )
        raise PullError(f"it redirects more than {_MAX_REDIRECTS} times")

    def _keep_pace(self, endpoint: Endpoint) -> None:
        self._wait(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + 1 / endpoint.requests_per_second

    def _redirected(self, response: requests.Response) -> str:
        target = urljoin(response.url, response.headers["Location"])
        origin = _origin(target)
        if origin != _origin(response.url):
            raise PullError(
                f"it redirects to {origin}, which the secret was not sent to; if that is "
                "the engine's address, declare it"
            )
        return target

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            name = self._access.secret_variable
            hint = f"check {name}" if name else "declare `auth` in the endpoint of its source"
            raise PullError(f"status {status}, it refuses us; {hint}")
        if status in _PASSING_STATUS or status >= 500:
            asked = _asked_wait(response.headers.get("Retry-After"))
            longest = self._patience.longest_asked_seconds
            if asked is not None and asked > longest:
                raise PullError(
                    f"status {status}, and it asks to wait {asked:.0f} s, longer than {longest:.0f}"
                    " s; the next pull asks again"
                )
            raise PassingError(f"status {status}", asked)
        if status != 200:
            start = response.raw.read(_READ_BYTES, decode_content=True)
            raise PullError(f"status {status}: {shown_start(start, self._access.hide)}")


def shown_start(body: bytes, hide: Callable[[str], str]) -> str:
    """The start of an answer as one line of an error message.

    The secret goes first: once the text is cut or escaped, it could not be told any more.
    """
    start = hide(body.decode(errors="replace"))[: 4 * _SHOWN_CHARACTERS]
    return ascii(" ".join(start.split()))[:_SHOWN_CHARACTERS]


def _body(response: requests.Response, endpoint: Endpoint, deadline: float) -> bytes:
    """The whole body; urllib3 raises where it is shorter than its length or last chunk says."""
    parts: list[bytes] = []
    size = 0
    while True:
        # read1 gives what is there, so that an answer that trickles in meets its deadline.
        part: bytes = response.raw.read1(_READ_BYTES, decode_content=True)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > endpoint.max_bytes:
            raise PullError(
                f"the answer is longer than max_bytes, {endpoint.max_bytes:,}; ask for smaller "
                "pages or declare more"
            )
        if time.monotonic() > deadline:
            raise PassingError(f"the answer took longer than {endpoint.timeout_seconds} s")


def _encodings(endpoint: Endpoint) -> str:
    """A cut gzip stream of the right length shows only where the text itself has an end."""
    return "gzip, identity" if endpoint.format == "json" else "identity"


def _asked_wait(value: str | None) -> float | None:
    """Seconds that Retry-After asks for, as a number or as a date; None when it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _shown(url: str, parameters: Mapping[str, str]) -> str:
    return requests.Request("GET", url, params=dict(parameters)).prepare().url or url


def _reason(error: Exception) -> str:
    """The innermost of the wrapped errors, which says what happened."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    inner: BaseException = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    return f"{type(inner).__name__}: {str(inner) or 'connection lost'}"
