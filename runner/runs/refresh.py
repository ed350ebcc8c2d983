"""One refresh: dbt run of marts and what they need, with a true row in metadata.refresh_log."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

import structlog
from psycopg2.extensions import connection as Connection

from warehouse import dbt
from warehouse.catalogue import Catalogue, read_catalogue
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

_INCREMENTAL = "config.materialized:incremental"
_ERROR_CHARACTERS = 4000

log = structlog.get_logger()


class RefreshError(OversightError):
    """A refresh failed; the message names the models and dbt's own errors."""


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """How a refresh ended: `status` as in metadata.refresh_log, rows written and removed."""

    run_id: int
    status: str
    rows_affected: int
    failed_parity: int


def refresh(
    settings: Settings,
    marts: Sequence[str] = (),
    *,
    full: bool = False,
    job_name: str | None = None,
    scheduled_for: datetime | None = None,
) -> Refresh:
    """Bring the named marts (all when none is named) and the facts below them up to date.

    A second run of a job that still runs is logged as `skipped_overlap` and does nothing. Raises
    RefreshError when dbt failed; the row in refresh_log is closed with the error first.
    """
    catalogue = read_catalogue(settings.project_dir)
    _check_names(catalogue, marts)
    job_name = job_name or " ".join(["refresh", *marts])
    log_connection = connect(settings, autocommit=True, application_name="oversight refresh")
    try:
        ensure_raw_tables(log_connection, catalogue.sources)
        run_id = _open_run(log_connection, job_name, scheduled_for)
        if not _take_job(log_connection, job_name):
            reason = "this job is still running"
            return _close_run(log_connection, run_id, "skipped_overlap", reason)
        return _run(settings, log_connection, run_id, marts, full=full)
    finally:
        log_connection.close()


def _run(
    settings: Settings,
    log_connection: Connection,
    run_id: int,
    marts: Sequence[str],
    *,
    full: bool,
) -> Refresh:
    error: str | None = "the run was interrupted"
    status = "cancelled"
    try:
        with tempfile.TemporaryDirectory(prefix="oversight-dbt-") as folder:
            result = dbt.run(
                settings,
                *_arguments(log_connection, marts, full=full),
                target_path=Path(folder),
                run_id=run_id,
            )
            failed = result.returncode != 0
            error = _error_of(Path(folder), result.stdout + result.stderr) if failed else None
            status = "failed" if failed else "success"
    except OSError as problem:
        status, error = "failed", f"dbt could not be started: {problem}"
    finally:
        outcome = _close_run(log_connection, run_id, status, error)
    if error is not None:
        raise RefreshError(f"refresh failed (run {run_id}): {error}")
    return outcome


def _arguments(log_connection: Connection, marts: Sequence[str], *, full: bool) -> list[str]:
    """dbt's command line: tables only, unless a view or the seed is missing."""
    wanted = [f"+{name}" for name in marts]
    if _is_complete(log_connection):
        selection = [f"{name},{_INCREMENTAL}" for name in wanted] or [_INCREMENTAL]
        arguments = ["run", "--select", *selection]
    else:
        arguments = ["build", "--exclude-resource-type", "test", "unit_test"]
        if wanted:
            arguments += ["--select", *wanted]
    return [*arguments, "--full-refresh"] if full else arguments


def _is_complete(log_connection: Connection) -> bool:
    """Whether every staging view and the first tables are there, so that dbt need not make them."""
    with log_connection.cursor() as cursor:
        cursor.execute(
            "select exists (select from metadata.catalogue), array("
            "select c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where n.nspname in ('staging', 'curated'))"
        )
        row = cursor.fetchone()
        assert row is not None
        relations = set(row[1])
        cursor.execute("select content from metadata.catalogue order by catalogue_id desc limit 1")
        content = cursor.fetchone()
    if content is None:
        return False
    models = {feed["model"] for feed in content[0]["feeds"]}
    return models | {"event_types", "dim_date", "fact_spend"} <= relations


def _check_names(catalogue: Catalogue, marts: Sequence[str]) -> None:
    known = [mart.name for mart in catalogue.marts if mart.cadence is not None]
    for name in marts:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise RefreshError(f"no mart {name!r} is declared in models/reporting; {hint}")


def _open_run(log_connection: Connection, job_name: str, scheduled_for: datetime | None) -> int:
    with log_connection.cursor() as cursor:
        cursor.execute(
            "insert into metadata.refresh_log (job_name, scheduled_for) values (%s, %s) "
            "returning run_id",
            (job_name, scheduled_for),
        )
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def _take_job(log_connection: Connection, job_name: str) -> bool:
    """The job's lock, held by the idle connection that also keeps the log."""
    with log_connection.cursor() as cursor:
        cursor.execute(
            "select pg_try_advisory_lock(hashtextextended('oversight job ' || %s, 0))", (job_name,)
        )
        row = cursor.fetchone()
        return bool(row and row[0])


def _close_run(log_connection: Connection, run_id: int, status: str, error: str | None) -> Refresh:
    with log_connection.cursor() as cursor:
        cursor.execute(
            """
            update metadata.refresh_log as l
            set
                status = %(status)s,
                error_message = %(error)s,
                finished_at = clock_timestamp(),
                rows_affected = (
                    select coalesce(sum(rows_inserted + rows_deleted), 0)
                    from metadata.refresh_log_model where run_id = l.run_id
                ),
                models = array(
                    select model from metadata.refresh_log_model where run_id = l.run_id order by 1
                )
            where run_id = %(run_id)s
            returning rows_affected
            """,
            {"status": status, "error": error, "run_id": run_id},
        )
        row = cursor.fetchone()
        cursor.execute(
            "select count(*) from metadata.parity_verdicts "
            "where verdict = 'failed' and strpos(mart, '.') = 0",
        )
        failed = cursor.fetchone()
    assert row is not None
    assert failed is not None
    log.info("refresh", run_id=run_id, status=status, rows_affected=row[0], error=error)
    return Refresh(
        run_id=run_id, status=status, rows_affected=int(row[0]), failed_parity=int(failed[0])
    )


def _error_of(target_path: Path, output: str) -> str:
    """What dbt says of the models that failed, else the end of its output."""
    try:
        results = json.loads((target_path / "run_results.json").read_text(encoding="utf-8"))
        failures = [
            f"{result['unique_id'].split('.')[-1]}: {' '.join(str(result['message']).split())}"
            for result in results["results"]
            if result["status"] in ("error", "fail", "runtime error")
        ]
    except (OSError, ValueError, KeyError):
        failures = []
    text = "; ".join(failures) or "\n".join(output.strip().splitlines()[-15:])
    return text[:_ERROR_CHARACTERS] or "dbt ended without a message"
