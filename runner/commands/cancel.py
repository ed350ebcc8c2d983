"""`oversight cancel`: end a run, wherever it runs."""

import time

import click

_WAIT_SECONDS = 10


@click.command(epilog="\b\nExample:\n  oversight cancel 1234")
@click.argument("run_id", type=int)
def cancel(run_id: int) -> None:
    """Cancel the run RUN_ID of metadata.refresh_log; its queries end with it.

    `oversight status` shows what is running. What a run has committed stays.
    """
    from warehouse.database import connect
    from warehouse.errors import OversightError
    from warehouse.settings import load_settings

    connection = connect(load_settings(), autocommit=True)
    try:
        with connection.cursor() as cursor:
            # The mark goes on every row of a run that does several jobs.
            cursor.execute(
                "update metadata.refresh_log as l set cancel_requested_at = clock_timestamp() "
                "from metadata.refresh_log as r where r.run_id = %s and l.status = 'running' and "
                "coalesce(l.lead_run_id, l.run_id) = coalesce(r.lead_run_id, r.run_id)",
                (run_id,),
            )
            is_asked = cursor.rowcount > 0
            deadline = time.monotonic() + _WAIT_SECONDS
            while True:
                cursor.execute(
                    "select job_name, status from metadata.refresh_log where run_id = %s",
                    (run_id,),
                )
                row = cursor.fetchone()
                if row is None:
                    raise OversightError(f"there is no run {run_id}; see `oversight status`")
                if row[1] != "running":
                    break
                if time.monotonic() > deadline:
                    raise OversightError(
                        f"run {run_id} ({row[0]}) has not ended within {_WAIT_SECONDS} s; if its "
                        "process is dead, the leading runner closes it as abandoned"
                    )
                time.sleep(0.2)
    finally:
        connection.close()
    if not is_asked:
        raise OversightError(f"run {run_id} ({row[0]}) has ended already: {row[1]}")
    click.echo(f"run {run_id} ({row[0]}): {row[1]}")
