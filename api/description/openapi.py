"""The OpenAPI description, from the same declarations and schemas that answer requests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Response, json, request

from api.description import admin as openapi_admin
from api.description import admin_schemas as openapi_admin_schemas
from api.description import fixed as openapi_fixed
from api.description import marts as openapi_marts
from api.description.operations import add, add_shared
from api.description.schemas import SCHEMAS
from api.reporting import formats
from api.reporting.deployed import Served
from api.reporting.parameter_fields import Parameter
from api.reporting.parameters import NO_PARAMETERS, load
from api.state import state
from warehouse.catalogue import Catalogue, read_catalogue
from warehouse.errors import OversightError
from warehouse.settings import load_settings

VERSION = "1.0.0"
_documents: dict[str, str] = {}
COMMITTED = Path(__file__).parents[1] / "openapi.json"
MOST_DIFFERENCES = 20
SECURITY: dict[str, dict[str, str]] = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ov_...",
        "description": "A key of `oversight key create`.",
    },
    "session": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's session, signed by the identity provider.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "oversight_session",
        "description": "What the login page gives to browsers; for GET only.",
    },
}
TAGS = {
    "marts": "The curated data, one operation per mart.",
    "metadata": "What there is, how fresh it is, and this description.",
    "administration": "Pulls and backfills, for who may administer; each call is kept on record.",
    "health": "Whether the service answers; open to all.",
}
blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    """The description of what is deployed."""
    load(NO_PARAMETERS, request.args)
    formats.chosen(request.headers.get("Accept"), (formats.JSON,))
    response = Response(_document(state().catalogue.current()), content_type=formats.JSON)
    response.add_etag()
    response.make_conditional(request)
    return response


def _document(served: Served) -> str:
    """The document of the newest deployment, made once: adapters ask for it every minute."""
    document = _documents.get(served.content_hash)
    if document is None:
        document = json.dumps(describe_api(served.catalogue))
        _documents.clear()
        _documents[served.content_hash] = document
    return document


def describe_api(catalogue: Catalogue) -> dict[str, Any]:
    """The OpenAPI document of a catalogue, whether deployed or read from the project."""
    plugin: Any = MarshmallowPlugin()
    spec = APISpec(
        title="Oversight reporting API",
        version=VERSION,
        openapi_version="3.1.0",
        info={
            "description": "Curated, parity-checked data; every answer says how fresh it is.",
            "contact": {"name": "Data Platform"},
        },
        servers=[{"url": "/", "description": "Where this document was read."}],
        security=[{name: []} for name in SECURITY],
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        plugins=[plugin],
    )
    for kind in Parameter.__subclasses__():
        described = kind.described
        plugin.map_to_openapi_type(kind, described.get("type"), described.get("format"))
    for name, scheme in SECURITY.items():
        spec.components.security_scheme(name, scheme)
    for name, schema in {**SCHEMAS, **openapi_admin_schemas.SCHEMAS}.items():
        spec.components.schema(name, schema)
    marts = list(Served.of(catalogue, "").marts.values())
    operations = [
        openapi_marts.list_operation(marts),
        *openapi_fixed.OPERATIONS,
        *openapi_admin.OPERATIONS,
    ]
    for served in marts:
        for name, schema in openapi_marts.schemas(served).items():
            spec.components.schema(name, schema)
        parameters = plugin.converter.schema2parameters(served.parameters.schema, location="query")
        operations.append(openapi_marts.operation(served, parameters))
    add_shared(spec, operations)
    for operation in operations:
        add(spec, operation)
    document: dict[str, Any] = spec.to_dict()
    return document


def differences(ours: Any, theirs: Any, at: str = "") -> Iterator[str]:
    """Where two documents differ, one line each, by the path to the place."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            place = f"{at} > {name}" if at else name
            if name not in theirs:
                yield f"{place}: missing"
            elif name not in ours:
                yield f"{place}: no longer there"
            else:
                yield from differences(ours[name], theirs[name], place)
    elif ours != theirs:
        yield f"{at}: {json.dumps(theirs)[:100]} should be {json.dumps(ours)[:100]}"


def check(text: str, committed: Path) -> list[str]:
    """What differs between the document as text and the committed file; nothing is well."""
    try:
        stored = committed.read_text(encoding="utf-8")
        found = list(differences(json.loads(text), json.loads(stored)))
    except (OSError, ValueError) as error:
        return [f"can't be read: {error}"]
    return found or ([] if stored == text else ["the same content, written in another way"])


def main(arguments: list[str]) -> int:
    """`python -m api.description.openapi [--check]`: of the declarations, deployed or not."""
    try:
        document = describe_api(read_catalogue(load_settings().project_dir))
    except OversightError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if "--check" not in arguments:
        sys.stdout.write(text)
        return 0
    found = check(text, COMMITTED)
    if not found:
        return 0
    shown = "\n".join(f"  {line}" for line in found[:MOST_DIFFERENCES])
    more = f"\n  and {len(found) - MOST_DIFFERENCES} more" if len(found) > MOST_DIFFERENCES else ""
    sys.stderr.write(
        f"error: {COMMITTED} is not what the project declares;"
        f" write it anew with `oversight openapi > api/openapi.json`:\n{shown}{more}\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
