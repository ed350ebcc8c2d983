"""Requests that mean harm, from a seed, as the bytes that go over a wire."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

PREFIX = b"/api/reporting/v1"
FOREIGN = "beta_only:9f31c7"
"""A partner of another organization; no answer may hold it unless the request does."""
FOREIGN_FIGURE = "77665544332211"
_SQL = (
    "'", "''", "';--", "' or '1'='1", "x' union select name,key_sha256::text,role,scope::text,null"
    " from metadata.principals--", "1; drop table reporting.daily_metrics", "*/ select 1 /*",
    "$$; select pg_sleep(30); $$", "'||pg_sleep(30)||'", "\\'; copy (select 1) to program 'id'",
    "{*}", "{alpha,beta}", '{"a":1}', "%s", "%(x)s", "{0}", "{x.__class__}", "${jndi:ldap://x}",
    "{{7*7}}", "<script>alert(1)</script>", "../../etc/passwd", "*", "alpha,beta", "beta", "null",
)  # fmt: skip
_TEXTS = (
    "", " ", "\t", "a" * 501, "a" * 20_000, "\u0000", "\ufeff", "\u202e", "\ud7ff",
    "\U0001f4a9" * 100,
    "\u0660\u0661", "\uff11", "NaN", "Infinity", "-0", "1e309", "9" * 400, "-1", "0x10", "1_000",
    "true", "[]", "()", "None", "undefined", "2026-02-30", "0001-01-01", "9999-12-31", "0000-00-00",
    "2026-W60", "9999-W53", "2026-10-01T00:00:00Z", "today", "\x7f", "\r\nX-Injected: yes", "\n",
)  # fmt: skip
_RAW = (
    b"%00", b"%ff%fe", b"%c0%ae%c0%ae", b"%ed%a0%80", b"%u0041", b"%", b"%2", b"%zz", b"%25%32%37",
    b"%0d%0aX-Injected:%20yes", b"+", b"&&&&", b"=", b"==&=", b";a=b", b"%26%3d", b"%F0%9F",
)  # fmt: skip
_NAMES = (
    "from", "to", "week", "partner_id", "page", "page_size", "fields", "organization_id", "mart",
    "partner_id[]", "partner_id[a][b]", "partner_id.x", "__class__", "FROM", " from", "from ",
    "metric", "verdict", "period", "limit", "offset", "order", "select", "scope", "role",
    "\u017ffrom",
)  # fmt: skip
_PATHS = (
    b"/daily-metrics", b"/weekly-partner-performance", b"/metadata/parity", b"/metadata/refresh",
    b"/marts",
)  # fmt: skip
_FILTERS = (
    (b"/daily-metrics", "partner_id"), (b"/weekly-partner-performance", "partner_id"),
    (b"/metadata/parity", "metric"), (b"/metadata/parity", "mart"),
    (b"/metadata/parity", "partner_id"),
)  # fmt: skip
_ADMIN = (b"/api/admin/backfills", b"/api/admin/etl/pull-reporting", b"/login", b"/logout")
_TRICKS = (
    b"/../daily-metrics", b"/%2e%2e/%2e%2e/etc/passwd", b"//daily-metrics", b"/daily-metrics/",
    b"/daily-metrics%00", b"/daily-metrics;x=1", b"/DAILY-METRICS", b"/daily_metrics", b"/.",
    b"/%2F",
    b"/daily-metrics%2f..%2foperations", b"/operations", b"/\xff\xfe", b"/" + b"a/" * 2000,
    b"/%5c..%5c",
    b"/metadata", b"/daily-metrics.csv", b"/" + b"x" * 9000, b"/{mart_path}", b"/<path:mart_path>",
)  # fmt: skip
_ROOTS = (
    b"/", b"/metrics", b"/openapi.json", b"/health/ready/", b"/health/../metrics",
    b"/health/%2e%2e/metrics",
    b"//", b"/api", b"/docs", b"/login", b"/logout", b"/static/../api/app.py",
    b"/static/%2e%2e/%2e%2e/setup.py",
    b"/.git/config", b"/api/admin/backfills", b"/api/admin/backfills/1",
    b"/api/admin/etl/pull-reporting",
    b"/api/admin/backfills/1/cancel", b"/api/admin/backfills/-1", b"/api/admin/backfills/1'--",
)  # fmt: skip
_METHODS = (b"GET",) * 12 + (
    b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"BREW", b"G" * 60,
)  # fmt: skip
_HEADERS = (
    b"Accept", b"Accept-Encoding", b"Accept-Language", b"Content-Type", b"Cookie", b"Expect",
    b"Forwarded",
    b"Host", b"Idempotency-Key", b"If-Match", b"If-Modified-Since", b"If-None-Match", b"Origin",
    b"Range",
    b"Referer", b"Traceparent", b"Tracestate", b"User-Agent", b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Prefix", b"X-Http-Method-Override", b"X-Original-Url", b"X-Request-Id",
    b"X-Scope",
)  # fmt: skip
_BODIES: tuple[Callable[[], bytes], ...] = (
    lambda: b"", lambda: b"null", lambda: b"[]", lambda: b"{", lambda: b"\xff\xfe", lambda: b'"x"',
    lambda: b"[" * 50_000, lambda: b'{"a":' * 20_000, lambda: b'{"from":1e999}',
    lambda: b'{"from":NaN}',
    lambda: b'{"engine":"native","engine":"x"}', lambda: b"9" * 5000, lambda: b"a=b&c=d",
    lambda: b'{"engine":"' + b"x" * 200_000 + b'"}', lambda: b'{"engine":"\\ud800"}',
    lambda: b'{"from":"2026-10-01","to":"2026-10-02","engine":"\'; drop table metadata.backfills"}',
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One request; `target` is path and query as they stand in the request line."""

    kind: str
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def wire(self) -> bytes:
        """The request as it goes over a socket, asking for the connection's end."""
        head = [b"%s %s HTTP/1.1" % (self.method, self.target)]
        names = {name.lower() for name, _ in self.headers}
        extra = [(b"Host", b"localhost")] if b"host" not in names else []
        if self.body or self.method in (b"POST", b"PUT", b"PATCH"):
            extra.append((b"Content-Length", b"%d" % len(self.body)))
        for name, value in (*extra, *self.headers, (b"Connection", b"close")):
            head.append(b"%s: %s" % (name, value))
        return b"\r\n".join(head) + b"\r\n\r\n" + self.body

    def holds(self, text: bytes) -> bool:
        """Whether the request itself says so, encoded or not."""
        said = (
            self.target,
            unquote_to_bytes(self.target),
            self.body,
            *(v for _, v in self.headers),
        )
        return any(text in part for part in said)


@dataclass
class Hostile:
    """Draws requests. `keys` are good ones of one organization, `tokens` real page tokens.

    `admin` may administer everything, and sends bodies alone.
    """

    seed: int
    keys: Sequence[str]
    admin: str
    tokens: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._kinds = (
            self._header, self._encoding, self._parameters, self._token, self._credential,
            self._sql, self._foreign, self._path, self._body,
        )  # fmt: skip

    def draw(self, number: int) -> list[Sent]:
        """So many requests, each kind as often as the others."""
        return [self._kinds[place % len(self._kinds)]() for place in range(number)]

    def _good(self, kind: str, query: bytes = b"", path: bytes | None = None) -> Sent:
        pick = self._random.choice
        key = pick(self.keys).encode()
        where = PREFIX + (pick(_PATHS) if path is None else path)
        return Sent(
            kind=kind,
            method=b"GET",
            target=where + (b"?" + query if query else b""),
            headers=((b"Authorization", b"Bearer " + key),),
        )

    def _text(self) -> str:
        return self._random.choice(self._random.choice((_SQL, _TEXTS)))

    def _header(self) -> Sent:
        pick, drawn = self._random.choice, self._random.random()
        sent = self._good("header")
        if drawn < 0.1:
            extra = [(b"X-%d" % number, b"v") for number in range(pick((50, 99, 150)))]
        elif drawn < 0.2:
            filler = pick((b"a", b" ", b",", b'"')) * pick((4_000, 20_000, 100_000))
            extra = [(pick((b"Accept", *_HEADERS)), b"a" + filler + pick((b"", b"b")))]
        elif drawn < 0.3:
            extra = [(b"Authorization", pick(sent.headers)[1])] * pick((1, 5))
        elif drawn < 0.4:
            extra = [(pick(_HEADERS), bytes(self._random.randrange(256) for _ in range(40)))]
        else:
            extra = [
                (pick(_HEADERS), self._text().encode("utf-8").translate(None, b"\r\n\0")[:8000])
                for _ in range(pick((1, 3)))
            ]
        return replace(sent, headers=(*sent.headers, *extra), method=pick(_METHODS))

    def _encoding(self) -> Sent:
        pick = self._random.choice
        raw = b"".join(pick(_RAW) for _ in range(pick((1, 2, 5))))
        return self._good("encoding", b"%s=%s" % (quoted(pick(_NAMES)), raw))

    def _parameters(self) -> Sent:
        pick = self._random.choice
        number = pick((1, 2, 3, 8, 8, 500))
        pairs = [(pick(_NAMES), self._text()[:300] if number > 8 else self._text())
                 for _ in range(number)]  # fmt: skip
        query = b"&".join(b"%s=%s" % (quoted(name), quoted(value)) for name, value in pairs)
        return self._good("parameters", query[: pick((2_000, 60_000))])

    def _token(self) -> Sent:
        pick = self._random.choice
        token = pick(self.tokens) if self.tokens else "x.y"
        query = b"page=" + quoted(self._altered(token))
        return self._good("token", pick((query, b"page_size=3&" + query)), b"/daily-metrics")

    def _credential(self) -> Sent:
        pick = self._random.choice
        key = self._altered(pick(self.keys))
        none = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": pick(("none", "HS256", "RS256", "NONE"))},
                         {"sub": self._text()[:500], "role": "admin",
                         "scope": {"organization": ["*"]}})
        )  # fmt: skip
        value = pick((f"Bearer {key}", f"Bearer {none}.", f"Bearer {none}.AAAA", f"Basic {key}",
                      key, f"Bearer {key} {key}", "Bearer", f"bearer\t{key}"))  # fmt: skip
        clean = value.encode("utf-8", "replace").translate(None, b"\r\n\0")[:9000]
        cookie = f"oversight_session={self._altered('eyJhIjoxfQ.' + key)}".encode(
            "utf-8", "replace"
        )
        headers = pick((
            ((b"Authorization", clean),),
            ((b"Cookie", cookie.translate(None, b"\r\n\0")[:9000]),),
        ))  # fmt: skip
        return replace(self._good("credential"), headers=headers)

    def _sql(self) -> Sent:
        pick = self._random.choice
        text = pick(_SQL)
        path, name = pick(_FILTERS) if self._random.random() < 0.6 else (None, pick(_NAMES))
        sent = self._good("sql", b"%s=%s" % (quoted(name), quoted(text)), path)
        if self._random.random() < 0.3:
            extra = (pick((b"X-Request-Id", b"Traceparent", b"If-None-Match")), text.encode())
            sent = replace(sent, headers=(*sent.headers, extra))
        elif self._random.random() < 0.2:
            sent = replace(sent, target=PREFIX + b"/" + quoted(text))
        return sent

    def _foreign(self) -> Sent:
        pick = self._random.choice
        value = pick((FOREIGN, FOREIGN + " ", FOREIGN.upper(), "reddit_ads:1"))
        more = pick((b"", b"&from=2026-09-01&to=2026-10-30", b"&page_size=5000", b"&fields=spend"))
        path = pick((b"/daily-metrics", b"/weekly-partner-performance", b"/metadata/parity"))
        return self._good("foreign", b"partner_id=" + quoted(value) + more, path)

    def _path(self) -> Sent:
        pick = self._random.choice
        target = pick((PREFIX + pick(_TRICKS), pick(_ROOTS)))
        if self._random.random() < 0.2:
            target = b"".join(bytes([b ^ 32]) if self._random.random() < 0.1 else bytes([b])
                              for b in target)  # fmt: skip
        sent = replace(self._good("path"), target=target, method=pick(_METHODS))
        return sent if self._random.random() < 0.7 else replace(sent, headers=())

    def _body(self) -> Sent:
        pick = self._random.choice
        kinds = (b"application/json", b"text/plain", b"application/x-www-form-urlencoded",
                 b"multipart/form-data; boundary=x", b"application/json; charset=utf-7",
                 b"")  # fmt: skip
        sent = replace(
            self._good("body"),
            target=pick(pick((_ROOTS, _ADMIN))),
            method=pick((b"POST", b"POST", b"PUT", b"PATCH")),
        )
        headers = (
            (b"Authorization", b"Bearer " + self.admin.encode()),
            (b"Content-Type", pick(kinds)),
            (b"Idempotency-Key", b"%d" % pick(range(9))),
        )
        return replace(sent, body=pick(_BODIES)(), headers=headers)

    def _altered(self, text: str) -> str:
        """Cut, doubled, with a letter changed, another's signature, or something else at all."""
        drawn, place = self._random.random(), self._random.randrange(len(text))
        if drawn < 0.25:
            return text[:place]
        if drawn < 0.4:
            return text + text
        if drawn < 0.7:
            return text[:place] + self._random.choice("AZaz09-_.=/+") + text[place + 1 :]
        if drawn < 0.8:
            return text[::-1]
        return self._text() or text


def quoted(text: str) -> bytes:
    """Every byte but letters and digits percent-encoded."""
    raw = text.encode("utf-8", "surrogatepass")
    return b"".join(bytes([b]) if bytes([b]).isalnum() else b"%%%02X" % b for b in raw)
