"""The scheduler: each mart's cadence in UTC, from the catalogue that is deployed."""

import signal
from datetime import datetime, timezone

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from runner.runs.refresh import refresh
from warehouse.catalogue import Catalogue, deployed
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.settings import Settings

RELOAD_SECONDS = 10

log = structlog.get_logger()


def jobs(catalogue: Catalogue) -> dict[str, str]:
    """Cron line by mart, for every mart that has a cadence."""
    return {mart.name: mart.cadence for mart in catalogue.marts if mart.cadence is not None}


def make_scheduler(settings: Settings) -> BackgroundScheduler:
    """A scheduler with a job per mart; it looks for a newly deployed catalogue by itself.

    One worker: runs follow each other, none is lost behind a busy one (no misfire limit), and
    several missed slots of a job become one run.
    """
    scheduler = BackgroundScheduler(
        timezone=timezone.utc,
        executors={"default": ThreadPoolExecutor(1), "reload": ThreadPoolExecutor(1)},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    current: dict[str, str] = {}

    def reload() -> None:
        try:
            wanted = _deployed_jobs(settings)
        except OversightError as error:
            log.warning("catalogue not read", error=str(error))
            return
        for name in current.keys() - wanted.keys():
            scheduler.remove_job(name)
            log.info("unscheduled", mart=name)
        for name, cadence in wanted.items():
            if current.get(name) != cadence:
                scheduler.add_job(
                    run_job,
                    CronTrigger.from_crontab(cadence, timezone=timezone.utc),
                    args=(settings, name),
                    id=name,
                    replace_existing=True,
                )
                log.info("scheduled", mart=name, cadence=cadence)
        current.clear()
        current.update(wanted)

    reload()
    scheduler.add_job(reload, "interval", seconds=RELOAD_SECONDS, id="reload", executor="reload")
    return scheduler


def run_job(settings: Settings, mart: str) -> None:
    """One due run; its failure is in refresh_log and must not stop the next."""
    scheduled_for = datetime.now(timezone.utc).replace(second=0, microsecond=0)
    try:
        refresh(settings, [mart], scheduled_for=scheduled_for)
    except OversightError as error:
        log.error("refresh failed", mart=mart, error=str(error))


def schedule(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM; a run under way is finished first."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    scheduler = make_scheduler(settings)
    scheduler.start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    log.info("stopping")
    scheduler.shutdown(wait=True)


def _deployed_jobs(settings: Settings) -> dict[str, str]:
    connection = connect(settings, autocommit=True, application_name="oversight schedule")
    try:
        return jobs(deployed(connection))
    finally:
        connection.close()
