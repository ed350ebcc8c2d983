"""How runs end: written by their own process, or by another when that one died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg2.extensions import connection as Connection

GRACE_SECONDS = 15
"""A run without its lock gets this long, since its process may be connecting anew."""
FROZEN_SECONDS = 60
"""A run that holds its lock without a heartbeat is frozen after this."""

# A mart that is done together with others counts itself; the first also counts facts and the rest.
_COUNTED = """
    from metadata.refresh_log_model as m
    where m.run_id = coalesce(l.lead_run_id, l.run_id) and case
        when l.lead_run_id is not null then m.model = l.job_name
        else m.model not in (
            select o.job_name from metadata.refresh_log as o where o.lead_run_id = l.run_id
        )
    end
"""
_ROWS = f"""coalesce(
    (select sum(m.rows_inserted + m.rows_updated + m.rows_deleted) {_COUNTED}), 0
)"""
_MODELS = f"array(select m.model {_COUNTED} order by 1)"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The one final state of the rows of a run, run_id by job, in the warehouse `instance_id`.

    `rows_affected` is None for dbt's runs, whose rows are counted in the database.
    """

    run_ids: dict[str, int]
    instance_id: str
    status: str
    error: str | None
    rows_affected: int | None = None
    dbt_version: str | None = None
    attempts: int = 1


def storable(text: str) -> str:
    """An error's text as PostgreSQL can hold it: no NUL, no half of a character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def close_rows(connection: Connection, ending: Ending) -> int:
    """Write the final state where none is yet; gives back how many rows it was written to.

    Of marts that were done together, those whose rows are committed have succeeded whatever became
    of the others.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            update metadata.refresh_log as l
            set
                status = o.status,
                error_message = case when o.status = %(status)s then %(error)s end,
                finished_at = clock_timestamp(),
                dbt_version = %(dbt_version)s,
                attempts = %(attempts)s,
                rows_affected = coalesce(%(rows)s, {_ROWS}),
                models = {_MODELS}
            from (
                select r.run_id, case
                    when %(together)s and exists (
                        select from metadata.refresh_log_model as m
                        where m.run_id = coalesce(r.lead_run_id, r.run_id)
                        and m.model = r.job_name
                    ) then 'success' else %(status)s
                end as status
                from metadata.refresh_log as r
                where r.run_id = any(%(run_ids)s)
            ) as o
            where l.run_id = o.run_id and l.status = 'running'
            """,
            {
                "status": ending.status,
                "error": ending.error,
                "rows": ending.rows_affected,
                "dbt_version": ending.dbt_version,
                "attempts": ending.attempts,
                "run_ids": list(ending.run_ids.values()),
                "together": len(ending.run_ids) > 1,
            },
        )
        return cursor.rowcount


@dataclass(frozen=True, kw_only=True)
class Dead:
    """A run that was closed as abandoned."""

    run_id: int
    job_name: str
    scheduled_for: datetime | None


def abandon_dead(connection: Connection, lives: int) -> list[Dead]:
    """Close, in one statement, every run whose process died or froze, and end what it left.

    A process lives while it holds the lock (`lives`, run_id) and beats. Gives back the runs.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            update metadata.refresh_log as l
            set
                status = 'abandoned',
                error_message = 'its process died or froze; last sign of life: ' || to_char(
                    l.heartbeat_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'
                ),
                finished_at = clock_timestamp(),
                rows_affected = {_ROWS},
                models = {_MODELS}
            where
                l.status = 'running'
                and l.heartbeat_at < clock_timestamp() - make_interval(secs => case
                    when exists (
                        select from pg_locks as k
                        where k.locktype = 'advisory' and k.objsubid = 2 and k.granted
                        and k.classid = %(lives)s and k.objid = l.run_id
                        and k.database = (
                            select oid from pg_database where datname = current_database()
                        )
                    ) then {FROZEN_SECONDS} else {GRACE_SECONDS}
                end)
            returning l.run_id, l.job_name, l.scheduled_for
            """,
            {"lives": lives},
        )
        found = [
            Dead(run_id=row[0], job_name=row[1], scheduled_for=row[2]) for row in cursor.fetchall()
        ]
        for dead in found:
            # What a frozen process holds would keep its successor waiting.
            cursor.execute(
                "select pg_terminate_backend(a.pid) from pg_stat_activity as a "
                "where a.datname = current_database() and (a.application_name = %s or a.pid in ("
                "select pid from pg_locks where locktype = 'advisory' and objsubid = 2 "
                "and classid = %s and objid = %s))",
                (f"oversight run {dead.run_id}", lives, dead.run_id),
            )
    return found
