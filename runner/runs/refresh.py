"""One refresh: dbt run of marts and what they need, logged as a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection

from runner.runs.log import Run, RunCancelled, logged_run
from runner.runs.warm_dbt import Dbt, DbtResult
from warehouse.catalogue import Catalogue, read_catalogue
from warehouse.database import connect
from warehouse.errors import DatabaseUnreachableError, OversightError
from warehouse.raw_tables import ensure_raw_tables
from warehouse.retries import is_transient_message, retrying
from warehouse.settings import Settings

_INCREMENTAL = "config.materialized:incremental"
_ERROR_CHARACTERS = 4000
_ATTEMPTS = 3
_AWAY_SECONDS = 120.0
_LOOK_SECONDS = 5.0

log = structlog.get_logger("oversight.runs")


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
    dbt: Dbt | None = None,
) -> Refresh:
    """Bring the named marts (all when none is named) and the facts below them up to date.

    A second run of a job that still runs is logged as `skipped_overlap` and does nothing. Raises
    RefreshError when dbt failed; the row in refresh_log is closed with the error first. Without
    `dbt` a process is started for this run alone.
    """
    catalogue = read_catalogue(settings.project_dir)
    _check_names(catalogue, marts)
    connection = connect(settings, autocommit=True)
    try:
        ensure_raw_tables(connection, catalogue.sources)
    finally:
        connection.close()
    run_id = None
    try:
        with (
            ExitStack() as stack,
            logged_run(settings, job_name or " ".join(["refresh", *marts])) as run,
        ):
            run_id = run.run_id
            if not run.is_skipped:
                own = dbt or stack.enter_context(Dbt(settings, warm=False))
                run_dbt(settings, run, own, marts, full=full)
    except RunCancelled as error:
        raise RefreshError(f"refresh cancelled (run {run_id}): {error}") from error
    except RefreshError as error:
        raise RefreshError(f"refresh failed (run {run_id}): {error}") from error
    return _outcome(settings, run.run_id)


def run_dbt(
    settings: Settings, run: Run, dbt: Dbt, marts: Sequence[str], *, full: bool = False
) -> None:
    """Have dbt do a run's work; after an error that is none of the data's, try again.

    Raises RefreshError with dbt's errors, RunCancelled when the run is over before dbt is.
    """
    while True:
        connection = retrying(seconds=_AWAY_SECONDS)(connect, settings, autocommit=True)
        try:
            arguments = _arguments(connection, marts, full=full)
        finally:
            connection.close()
        result = _result(run, dbt, arguments)
        if result.success:
            _check_written(settings, run, marts)
            return
        is_passing = all(map(is_transient_message, result.failures or (result.output,)))
        if not is_passing or run.attempts == _ATTEMPTS:
            raise RefreshError(_error_of(result))
        log.warning("tried again", run_id=run.run_id, attempt=run.attempts, why=result.failures)
        run.wait(2.0**run.attempts)
        run.attempts += 1


def _check_written(settings: Settings, run: Run, marts: Sequence[str]) -> None:
    """dbt is content when it finds nothing to select; the marts' own transactions tell."""
    connection = retrying(seconds=_AWAY_SECONDS)(connect, settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select m from unnest(%s::text[]) as m where not exists ("
                "select from metadata.refresh_log_model where run_id = %s and model = m)",
                (list(marts), run.run_id),
            )
            missing = [str(row[0]) for row in cursor.fetchall()]
    finally:
        connection.close()
    if missing:
        raise RefreshError(f"dbt knows no mart {', '.join(missing)} in {settings.project_dir}")


def run_tests(run: Run, dbt: Dbt) -> None:
    """Have dbt run every test of the project; RefreshError names those that fail."""
    result = _result(run, dbt, ["test"])
    if not result.success:
        raise RefreshError(_error_of(result))


def _result(run: Run, dbt: Dbt, arguments: Sequence[str]) -> DbtResult:
    """Wait for dbt's end; whatever else ends the wait ends dbt."""
    under_way = dbt.start(arguments, run_id=run.run_id)
    try:
        run.on_over(under_way.cancel)
        while (result := under_way.wait(_LOOK_SECONDS)) is None:
            with suppress(DatabaseUnreachableError, psycopg2.Error):
                if under_way.is_stuck():
                    raise RefreshError("dbt stood still and let the database wait, and was ended")
        run.dbt_version = result.dbt_version
        run.check()
        return result
    except BaseException:
        under_way.cancel()
        raise


def _arguments(connection: Connection, marts: Sequence[str], *, full: bool) -> list[str]:
    """dbt's command line: tables only, unless a view or the seed is missing."""
    # Dimensions are below no mart, and yet have to be as fresh as what is read beside them.
    wanted = [*(f"+{name}" for name in marts), "dim_*"] if marts else []
    if _is_complete(connection):
        selection = [f"{name},{_INCREMENTAL}" for name in wanted] or [_INCREMENTAL]
        arguments = ["run", "--select", *selection]
    else:
        arguments = ["build", "--exclude-resource-type", "test", "unit_test"]
        if wanted:
            arguments += ["--select", *wanted]
    return [*arguments, "--full-refresh"] if full else arguments


def _is_complete(connection: Connection) -> bool:
    """Whether every staging view and the first tables are there, so that dbt need not make them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select array("
            "select c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where n.nspname in ('staging', 'curated')), ("
            "select content from metadata.catalogue order by catalogue_id desc limit 1)"
        )
        row = cursor.fetchone()
    if row is None or row[1] is None:
        return False
    models = {feed["model"] for feed in row[1]["feeds"]}
    return models | {"event_types", "dim_date", "fact_spend"} <= set(row[0])


def _check_names(catalogue: Catalogue, marts: Sequence[str]) -> None:
    known = [mart.name for mart in catalogue.marts if mart.cadence is not None]
    for name in marts:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise RefreshError(f"no mart {name!r} is declared in models/reporting; {hint}")


def _outcome(settings: Settings, run_id: int) -> Refresh:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select status, coalesce(rows_affected, 0), ("
                "select count(*) from metadata.parity_verdicts "
                "where verdict = 'failed' and strpos(mart, '.') = 0) "
                "from metadata.refresh_log where run_id = %s",
                (run_id,),
            )
            row = cursor.fetchone()
    finally:
        connection.close()
    assert row is not None
    return Refresh(run_id=run_id, status=row[0], rows_affected=int(row[1]), failed_parity=row[2])


def _error_of(result: DbtResult) -> str:
    """What dbt says of the models that failed, else the end of its output."""
    text = "; ".join(result.failures) or "\n".join(result.output.strip().splitlines()[-15:])
    return text[:_ERROR_CHARACTERS] or "dbt ended without a message"
