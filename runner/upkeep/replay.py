"""A backup replayed into a database in one transaction: all of it, compared, or nothing.

pg_restore writes SQL and psql runs it, so that a login without superuser's rights can do it too:
what belonged to the login that took the backup belongs to the one that restores it, and grants to
roles that this server doesn't have are left out.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from runner.upkeep.contents import SCHEMAS, SESSION, content_query
from runner.upkeep.dump_file import Listing, Manifest
from runner.upkeep.programs import UNWATCHED, BackupError, Child, Programs, Watch

_OWNED_ROLES = frozenset({"oversight_owner", "oversight_raw", "oversight_retention"})
_OWNER = re.compile(r"^ALTER .* OWNER TO (\S+);$")
_GRANT = re.compile(r"^(?:GRANT|REVOKE) .* (?:TO|FROM) (\S+?)(?: WITH GRANT OPTION)?;$")
# pg_restore of 17 and newer writes it for any server, but older ones don't know it.
_NEWER_SETTING = "SET transaction_timeout = 0;"
_CHUNK_BYTES = 1 << 18
_LOCK_TIMEOUT = "30s"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The database that a backup goes to, and what its server knows."""

    dsn: str
    environment: dict[str, str]
    major: int
    is_superuser: bool
    roles: Set[str]


def look_at(cursor: Cursor, dsn: str, environment: dict[str, str]) -> Target:
    """The target that `dsn` reaches; `cursor` is of a connection to the same server."""
    cursor.execute(
        "select current_setting('server_version_num')::int / 10000, "
        "(select rolsuper from pg_roles where rolname = current_user), "
        "array(select rolname::text from pg_roles)"
    )
    row = cursor.fetchone()
    assert row is not None
    return Target(
        dsn=dsn,
        environment=environment,
        major=int(row[0]),
        is_superuser=bool(row[1]),
        roles=frozenset(row[2]),
    )


def replay(
    file: Path,
    listing: Listing,
    manifest: Manifest | None,
    target: Target,
    programs: Programs,
    *,
    finish: Iterable[str] = (),
    watch: Watch = UNWATCHED,
) -> None:
    """Replace the four schemas by what the file holds; `finish` are statements of the same
    transaction, run after every table was compared with the manifest."""
    with tempfile.NamedTemporaryFile("w", suffix=".list") as use_list:
        use_list.write(_without_schemas(listing.text))
        use_list.flush()
        restore = [programs.path("pg_restore"), "--use-list", use_list.name, "--file", "-"]
        before = _filtered(_section(restore, "pre-data", file), target)
        after = _filtered(_section(restore, "post-data", file), target)
        psql = Child(
            [
                *(programs.path("psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"),
                *("--dbname", target.dsn, "--file", "-"),
            ],
            target.environment,
            stdin=subprocess.PIPE,
        )
        try:
            _feed(psql, [*_preparation(target), before])
            rows = manifest.rows if manifest else 0
            _stream_data([*restore, "--section=data", str(file)], psql, target, rows, watch)
            _feed(psql, [after, *_comparison(manifest), *finish, *_conclusion(target), "commit;"])
            assert psql.process.stdin is not None
            psql.process.stdin.close()
            if psql.wait(watch) != 0:
                raise _failure(file, psql)
        except BrokenPipeError as error:
            psql.wait()
            raise _failure(file, psql) from error
        finally:
            psql.end()


def _failure(file: Path, psql: Child) -> BackupError:
    return BackupError(
        f"{file} can't be restored, and the database is as it was: {psql.complaint()}"
    )


def _section(restore: list[str], name: str, file: Path) -> str:
    done = subprocess.run(
        [*restore, f"--section={name}", str(file)], capture_output=True, check=False
    )
    if done.returncode != 0:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise BackupError(f"{file} can't be read, and nothing was changed: {reason}")
    return done.stdout.decode()


def _without_schemas(listing: str) -> str:
    """The schemas are made beforehand, because owners of tables need CREATE in them at once."""
    lines = listing.splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"^\d+; \d+ \d+ SCHEMA - ", line))


def _filtered(script: str, target: Target) -> str:
    kept: list[str] = []
    for line in script.splitlines(keepends=True):
        owner, granted = _OWNER.match(line.rstrip("\n")), _GRANT.match(line.rstrip("\n"))
        if owner and owner[1].strip('"') not in _OWNED_ROLES:
            continue
        if granted and granted[1].strip('"') not in target.roles | {"PUBLIC"}:
            continue
        if line.startswith(_NEWER_SETTING) and target.major < 17:
            continue
        kept.append(line)
    return "".join(kept)


def _preparation(target: Target) -> list[str]:
    steps = ["begin;", f"set local lock_timeout = '{_LOCK_TIMEOUT}';"]
    steps += ["set local client_min_messages = warning;"]
    steps += [f"drop schema if exists {name} cascade;" for name in SCHEMAS]
    steps += [f"create schema {name};" for name in SCHEMAS]
    steps += [
        "grant usage, create on schema staging to oversight_owner, oversight_raw;",
        "grant usage, create on schema curated, reporting to oversight_owner;",
        "grant create on schema metadata to oversight_retention, oversight_owner;",
    ]
    if not target.is_superuser:
        steps.append("grant oversight_retention to current_user;")
    return steps


def _conclusion(target: Target) -> list[str]:
    steps = ["revoke create on schema metadata from oversight_retention, oversight_owner;"]
    if not target.is_superuser:
        steps.append("revoke oversight_retention from current_user;")
    return steps


def _comparison(manifest: Manifest | None) -> list[str]:
    """Statements that raise when a table does not hold what the backup's snapshot held."""
    if manifest is None:
        return []
    steps = [f"set local {name} = '{value}';" for name, value in SESSION.items()]
    for name, content in sorted(manifest.tables.items()):
        schema, _, table = name.partition(".")
        expected = f"{content.rows} {content.checksum}"
        steps.append(
            f"do $$ declare found text := {content_query(schema, table)}; begin "
            f"if found <> '{expected}' then raise exception "
            f"'table {name} differs from the backup: it holds % (rows, checksum), not {expected}', "
            "found; end if; end $$;"
        )
    return steps


def _feed(psql: Child, statements: Iterable[str]) -> None:
    assert psql.process.stdin is not None
    psql.process.stdin.write(("\n".join(statements) + "\n").encode())
    psql.process.stdin.flush()


def _stream_data(
    command: list[str],
    psql: Child,
    target: Target,
    rows: int,
    watch: Watch,
) -> None:
    """Rows, a line each, from pg_restore to psql. When the one fails, the other must not come to
    its commit."""
    source = Child(command, target.environment, stdout=subprocess.PIPE)
    assert source.process.stdout is not None
    assert psql.process.stdin is not None
    try:
        is_first, lines = True, 0
        while chunk := source.process.stdout.read(_CHUNK_BYTES):
            if is_first and target.major < 17:
                chunk = chunk.replace(_NEWER_SETTING.encode(), b"", 1)
            is_first = False
            psql.process.stdin.write(chunk)
            lines += chunk.count(b"\n")
            watch.show("restoring", min(lines, rows), rows)
            watch.check()
        if source.wait(watch) != 0:
            raise BackupError(f"nothing was changed: {source.complaint()}")
    finally:
        source.end()
