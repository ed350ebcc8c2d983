"""A client whose every answer is held against the OpenAPI document of what the app serves."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker
from werkzeug.test import TestResponse

from api.description.openapi import describe_api
from api.problems import CONTENT_TYPE
from api.state import state_of
from clusters import PROJECT_DIR
from warehouse.catalogue import Catalogue, read_catalogue

_JSON = ("application/json", CONTENT_TYPE)
_FORMATS = FormatChecker(["date", "date-time"])


class ContractClient(FlaskClient):
    """Fails on an answer that the document does not say; what is sent unread is not looked at."""

    def open(self, *arguments: Any, **named: Any) -> TestResponse:
        """One request, its answer checked."""
        response = super().open(*arguments, **named)
        if not (response.is_streamed and named.get("buffered") is False):
            served = state_of(self.application).catalogue._served
            Contract.of(served.catalogue if served else None).check(response)
        return response


class Contract:
    """One document and the validators of its answers."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._validators: dict[str, Draft202012Validator] = {}
        self._paths = {
            re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): item
            for path, item in document["paths"].items()
        }

    @classmethod
    def of(cls, catalogue: Catalogue | None) -> Contract:
        """The contract of a catalogue; of none, that of the project."""
        return _contract((catalogue or _project()).to_json())

    def operation(self, path: str, method: str) -> Mapping[str, Any] | None:
        """What the document says of an address and method, None where it has neither."""
        for pattern, item in self._paths.items():
            if pattern.fullmatch(path):
                found: Mapping[str, Any] | None = item.get(method)
                return found
        return None

    def check(self, response: TestResponse) -> None:
        """Status, media type, body and headers are as described."""
        path, method = response.request.path, response.request.method.lower()
        operation = self.operation(path, "get" if method == "head" else method)
        where = f"{method} {path}: {response.status_code}"
        assert response.headers["X-Request-Id"], where
        if operation is None:
            if response.mimetype == CONTENT_TYPE and method != "head":
                self.validate({"$ref": "#/components/schemas/Problem"}, response.text, where)
            return
        answers = operation["responses"]
        assert str(response.status_code) in answers, f"{where} is not described"
        answer = self._resolved(answers[str(response.status_code)])
        for name, header in answer.get("headers", {}).items():
            if name in response.headers:
                schema = self._resolved(header)["schema"]
                value = _typed(response.headers[name], schema)
                self.validate(schema, json.dumps(value), f"{where} {name}")
        if method == "head" or response.status_code == 304:
            assert not response.data, where
            return
        if response.mimetype not in answer["content"]:
            raise AssertionError(f"{where} as {response.mimetype} is not described")
        if response.mimetype in _JSON:
            schema = answer["content"][response.mimetype]["schema"]
            self.validate(schema, response.text, where)
        elif response.mimetype == "application/x-ndjson":
            page = answer["content"]["application/json"]["schema"]
            row = self._resolved(page)["properties"]["data"]["items"]
            for line in response.text.split("\n")[:-1]:
                self.validate(row, line, where)

    def validate(self, schema: Mapping[str, Any], text: str, where: str) -> None:
        """The text is JSON of the schema."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            components = {"components": self.document["components"]}
            self._validators[key] = Draft202012Validator(
                {**schema, **components}, format_checker=_FORMATS
            )
        value = json.loads(text, parse_float=Decimal)
        found = [
            f"{error.json_path}: {error.message}"
            for error in self._validators[key].iter_errors(value)
        ]
        assert not found, f"{where} is not as described: {found[:3]}"

    def _resolved(self, item: Any) -> Any:
        while "$ref" in item:
            place: Any = self.document
            for part in item["$ref"].removeprefix("#/").split("/"):
                place = place[part]
            item = place
        return item


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A header's value as what its schema speaks of."""
    if schema.get("type") in ("integer", "boolean"):
        return json.loads(text)
    return text


@functools.lru_cache(maxsize=20)
def _contract(catalogue: str) -> Contract:
    return Contract(json.loads(json.dumps(describe_api(Catalogue.from_json(catalogue)))))


@functools.lru_cache(maxsize=1)
def _project() -> Catalogue:
    return read_catalogue(PROJECT_DIR)
