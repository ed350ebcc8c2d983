"""Statements that PostgreSQL parses and plans once per connection, still one message per read.

The message of a read ends in EXECUTE; where its connection does not know the statement yet, PREPARE
stands before it. Behind a pooler that lends sessions by the transaction nothing stays prepared:
then the same SQL is sent with its values in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import psycopg2.errors
import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.sql import Composable, Composed, Literal

MOST_STATEMENTS = 40
"""Of one connection; each takes memory of the server."""
MOST_SHAPES = 500
REFUSALS = (
    psycopg2.errors.InvalidSqlStatementName,
    psycopg2.errors.DuplicatePreparedStatement,
)

log = structlog.get_logger()


class Argument(Composable):
    """A value that differs from read to read: a literal, or a parameter of a prepared statement.

    What has one `key` in a statement has one value; `data_type` is as PREPARE takes it.
    """

    def __init__(self, key: str, value: Any, data_type: str) -> None:
        super().__init__(value)
        self.key = key
        self.data_type = data_type
        self._literal = Literal(value)

    def as_string(self, context: Any) -> str:
        """The literal."""
        return self._literal.as_string(context)


class Fixed(Composable):
    """A text that is composed once; every connection speaks the same encoding."""

    def __init__(self, whole: Composable) -> None:
        super().__init__(whole)
        self._whole = whole
        self._text: str | None = None

    def as_string(self, context: Any) -> str:
        """The text."""
        if self._text is None:
            self._text = self._whole.as_string(context)
        return self._text


@dataclass(frozen=True)
class Statement:
    """A statement with its name, and the keys of its parameters in their order."""

    name: str
    preparation: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, whole: Composable, connection: Connection) -> Statement:
        """The statement whose arguments are parameters; equal ones have equal names."""
        types: dict[str, str] = {}
        text = "".join(_texts(whole, types, connection))
        declared = f"({', '.join(types.values())})" if types else ""
        digest = hashlib.blake2b(f"{declared} {text}".encode(), digest_size=12).hexdigest()
        name = f"ov_{digest}"
        return cls(name, f"prepare {name} {declared} as {text};\n", tuple(types))


@dataclass(frozen=True, kw_only=True)
class Call:
    """A read by a prepared statement: what stands before it, and the values of its arguments.

    `compose` makes the statement of a `shape`, which `known` then keeps.
    """

    begin: Composable
    compose: Callable[[], Composable]
    known: MutableMapping[Any, Statement]
    shape: Any
    values: Mapping[str, Any]

    def plain(self) -> Composable:
        """The same read with nothing prepared."""
        return Composed([self.begin, self.compose()])

    def statement(self, connection: Connection) -> Statement:
        """The statement of this shape."""
        found = self.known.get(self.shape)
        if found is None:
            found = Statement.of(self.compose(), connection)
            if len(self.known) >= MOST_SHAPES:
                self.known.clear()
            self.known[self.shape] = found
        return found


class Prepared:
    """What the connections of one pool have prepared; None where a message failed on its way."""

    def __init__(self) -> None:
        self.is_possible = True
        self._names: WeakKeyDictionary[Connection, set[str] | None] = WeakKeyDictionary()

    @contextmanager
    def sending(self, call: Call, connection: Connection) -> Iterator[str]:
        """The message of a call, as this connection needs it; what is sent whole is prepared."""
        statement = call.statement(connection)
        names = self._names.get(connection, set())
        text = call.begin.as_string(connection)
        if names is None or len(names) >= MOST_STATEMENTS:
            text += "deallocate all;\n"
            names = set()
        if statement.name not in names:
            text += statement.preparation
            self._names[connection] = None
        given = ", ".join(Literal(call.values[key]).as_string(connection) for key in statement.keys)
        yield f"{text}execute {statement.name}{f'({given})' if given else ''}"
        self._names[connection] = names | {statement.name}

    def give_up(self) -> None:
        """Prepare nothing from now on."""
        self.is_possible = False
        log.warning("statements are not prepared: the connections keep none, as behind a pooler")


def _texts(whole: Composable, types: dict[str, str], connection: Connection) -> Iterator[str]:
    if isinstance(whole, Composed):
        for part in whole.seq:
            yield from _texts(part, types, connection)
    elif isinstance(whole, Argument):
        types.setdefault(whole.key, whole.data_type)
        yield f"${list(types).index(whole.key) + 1}"
    else:
        yield whole.as_string(connection)
