"""Where an engine is and what it wants to see, from the variables that its source declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, urlsplit

from runner.pull.errors import PullError
from warehouse.declared import Catalogue
from warehouse.endpoints import Endpoint
from warehouse.settings import secret

_HIDDEN = "***"


@dataclass(frozen=True, kw_only=True)
class Access:
    """An engine's address and the header that opens it; nothing of the secret is ever shown."""

    base_url: str
    header: str | None = None
    value: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    secret_variable: str | None = None

    def hide(self, text: str) -> str:
        """The text without the secret, should anything have put it there, as it is or escaped."""
        if not self.secret:
            return text
        forms = {self.secret, json.dumps(self.secret)[1:-1], ascii(self.secret)[1:-1]}
        forms |= {quote(self.secret, safe=""), quote_plus(self.secret)}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, _HIDDEN)
        return text


def read_access(engine: str, endpoint: Endpoint, environ: Mapping[str, str]) -> Access:
    """Read the variables of an endpoint; PullError names the one that is missing or wrong."""
    url = secret(environ, endpoint.url_variable)
    if url is None:
        raise PullError(
            f"the address of {engine} is not known: set {endpoint.url_variable}, such as "
            "https://engine.example/api"
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise PullError(f"{endpoint.url_variable} is no address like https://engine.example/api")
    if parts.username is not None or parts.password is not None:
        raise PullError(
            f"{endpoint.url_variable} holds a user or password; declare `auth` for {engine} and "
            "put the secret into its variable"
        )
    if endpoint.secret_variable is None:
        return Access(base_url=url.rstrip("/"))
    value = secret(environ, endpoint.secret_variable)
    if value is None:
        raise PullError(
            f"the secret of {engine} is not known: set {endpoint.secret_variable}, or "
            f"{endpoint.secret_variable}_FILE to a file that holds it"
        )
    if not value.isprintable() or not value.isascii():
        raise PullError(f"{endpoint.secret_variable} holds what a header can't carry")
    return Access(
        base_url=url.rstrip("/"),
        header=endpoint.header,
        value=f"{endpoint.scheme} {value}" if endpoint.scheme else value,
        secret=value,
        secret_variable=endpoint.secret_variable,
    )


def scheduled_pulls(environ: Mapping[str, str], catalogue: Catalogue) -> dict[str, str]:
    """The cadence of every engine whose address is set here; the others are no jobs.

    Whether the address is right is for the pull to find, whose failure is in the log.
    """
    known = {
        source.engine
        for source in catalogue.sources
        if source.endpoint
        and any(environ.get(source.endpoint.url_variable + end) for end in ("", "_FILE"))
    }
    return {engine: line for engine, line in catalogue.pulls().items() if engine in known}
