"""pg_cron as the clock: at each slot of a job it asks the runner for it, in metadata.job_requests.

Every change leaves a moment with two clocks rather than one with none: a slot is unique, so that
two do no harm.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

from runner.pull.access import scheduled_pulls
from runner.schedule.cron_lines import CronLineError, to_pg_cron
from runner.schedule.cron_server import CronEntry, CronServer, PgCronError, Wanted
from runner.schedule.jobs import sync_jobs, wanted_jobs
from warehouse import database
from warehouse.catalogue import Catalogue, deployed
from warehouse.settings import Settings

_TIDY_CADENCE = "17 3 * * *"
_REQUEST = "select metadata.request_due("
_TELL_DAEMONS = "select pg_notify('oversight_catalogue', 'clock')"
_FORGET_REQUESTS = "select metadata.forget_requests()"
_FORGET_RUNS = (
    "delete from cron.job_run_details where start_time < now() - interval '7 days' and jobid in "
    "(select jobid from cron.job where starts_with(jobname::text, {prefix}))"
)


@dataclass(kw_only=True)
class Installed:
    """What `install` did, by job: `kept` stay with the runner's own clock, each with its reason."""

    scheduled: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unscheduled: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def install(settings: Settings) -> Installed:
    """Make pg_cron the clock of every job of the deployed catalogue; again, it mends what differs.

    Raises PgCronError when pg_cron is not to be had or this login may not use it; then nothing
    has changed.
    """
    connection = database.connect(settings)
    try:
        catalogue = deployed(connection)
        with connection:
            jobs = sync_jobs(connection, declared_jobs(connection, catalogue))
        done = Installed()
        with CronServer(settings, connection) as server:
            if problem := server.zone_problem():
                raise PgCronError(problem)
            cadences = {job.name: job.cadence for job in jobs}
            wanted, done.kept = wanted_entries(cadences, server)
            # What pg_cron can't keep is the runner's before its entry goes.
            _set_clock(connection, done.kept, "runner")
            _mend(server, wanted, done)
        _set_clock(connection, wanted, "pg_cron")
        return done
    finally:
        connection.close()


def remove(settings: Settings) -> list[str]:
    """Give all slots back to the runner, then unschedule all that is ours; gives back which jobs.

    Where pg_cron is gone already the runner keeps time again all the same, and PgCronError says so.
    """
    connection = database.connect(settings)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("update metadata.jobs set clock = 'runner' where clock = 'pg_cron'")
            cursor.execute(_TELL_DAEMONS)
        with CronServer(settings, connection) as server:
            entries = server.entries()
            server.unschedule(entries)
            return [job_of(entry) for entry in entries]
    except PgCronError as error:
        raise PgCronError(f"the runner keeps time again; {error}") from error
    finally:
        connection.close()


def declared_jobs(connection: Connection, catalogue: Catalogue) -> list[tuple[str, str, str]]:
    """Name, kind and cron line of every job; an engine is pulled if a runner's or this machine's
    environment says where it is."""
    with connection.cursor() as cursor:
        cursor.execute("select job_name from metadata.jobs where kind = 'pull'")
        known = {str(name).removeprefix("pull ") for (name,) in cursor.fetchall()}
    known |= scheduled_pulls(os.environ, catalogue).keys()
    pulls = {engine: line for engine, line in catalogue.pulls().items() if engine in known}
    return wanted_jobs(catalogue, pulls)


def wanted_entries(
    cadences: Mapping[str, str], server: CronServer
) -> tuple[dict[str, Wanted], dict[str, str]]:
    """What pg_cron is to hold by job, and why it can't keep the time of others.

    Beside the jobs it deletes, daily, old requests and notes of its own: they need no export.
    """
    wanted: dict[str, Wanted] = {}
    kept: dict[str, str] = {}
    for job, cadence in cadences.items():
        try:
            line = to_pg_cron(cadence)
        except CronLineError as error:
            kept[job] = str(error)
            continue
        command = f"{_REQUEST}{_quoted(job)})"
        wanted[job] = Wanted(cadence=line, command=command, database=server.warehouse)
    wanted["forget-requests"] = Wanted(
        cadence=_TIDY_CADENCE, command=_FORGET_REQUESTS, database=server.warehouse
    )
    command = _FORGET_RUNS.format(prefix=_quoted(server.prefix))
    wanted["forget-runs"] = Wanted(cadence=_TIDY_CADENCE, command=command, database=server.database)
    return wanted, kept


def job_of(entry: CronEntry) -> str:
    """The job that an entry asks for, else what its name says."""
    if entry.held.command.startswith(_REQUEST):
        return entry.held.command[len(_REQUEST) + 1 : -2].replace("''", "'")
    return entry.label


def is_right(wanted: Wanted, entry: CronEntry) -> bool:
    """Whether an entry is just what is wanted, at work, and this login's."""
    return entry.held == wanted and entry.is_active and entry.is_own


def _mend(server: CronServer, wanted: Mapping[str, Wanted], done: Installed) -> None:
    right: set[str] = set()
    wrong: list[CronEntry] = []
    for entry in server.entries():
        job = job_of(entry)
        if job in wanted and job not in right and is_right(wanted[job], entry):
            right.add(job)
        else:
            wrong.append(entry)
    server.unschedule(wrong)
    done.unchanged = sorted(right)
    done.scheduled = sorted(wanted.keys() - right)
    done.unscheduled = sorted({job_of(entry) for entry in wrong} - wanted.keys())
    for job in done.scheduled:
        server.schedule(job, wanted[job])


def _set_clock(connection: Connection, jobs: Iterable[str], clock: str) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "update metadata.jobs set clock = %s where job_name = any(%s) and clock <> %s",
            (clock, list(jobs), clock),
        )
        cursor.execute(_TELL_DAEMONS)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
