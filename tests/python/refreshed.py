"""A built warehouse whose daemon takes new extracts every moment, and what the mart held when."""

from __future__ import annotations

import csv
import dataclasses
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from built import BuiltWarehouse
from daemons import HandDaemon, deploy_to
from open_loop import digest_of, exact
from simulated import specification

from runner.schedule.jobs import wanted_jobs
from runner.simulation.simulate import simulate

STEP = timedelta(minutes=10)
START = datetime(2026, 12, 24, 12, tzinfo=timezone.utc)
DAILY = "/api/reporting/v1/daily-metrics"
FIRST_DAY, DAYS = date(2026, 10, 20), 22
_CORRECTIONS = 20
_CONTENT = """
select
    to_char(v.last_refresh_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    (
        select json_agg(r order by r.day, r.partner_id)::text
        from (
            select day, partner_id, spend, revenue, margin, events, impressions, clicks
            from reporting.daily_metrics where organization_id = v.organization_id
        ) as r
    )
from metadata.data_versions as v where v.model = 'daily_metrics' and v.organization_id = %s
"""


class Refreshing:
    """Within `with`, a thread lands corrections and has the daemon refresh, one after the other."""

    def __init__(self, built: BuiltWarehouse, folder: Path) -> None:
        self.built = built
        built.renew()
        marts = tuple(
            dataclasses.replace(mart, cadence="*/10 * * * *") if mart.cadence else mart
            for mart in built.catalogue.marts
        )
        catalogue = dataclasses.replace(built.catalogue, marts=marts)
        deploy_to(built, catalogue)
        for job in wanted_jobs(catalogue, {}):
            built.rows(
                "insert into metadata.jobs (job_name, kind, cadence, since)"
                " values (%s, %s, %s, %s)",
                (*job, START),
            )
        first = folder / "first"
        report = simulate(specification(first, rows=2000))
        # The corrections know no control totals.
        for path in (first / "oversight").glob("control_totals*"):
            path.unlink()
        assert built.load("oversight", first / "oversight").is_clean
        built.refresh()
        (spend, *_) = [file.path for file in report.files if file.table == "spend"]
        with spend.open(encoding="utf-8", newline="") as text:
            self._records = list(csv.DictReader(text))
        ((self.organization,),) = built.rows(
            "select organization_id from reporting.daily_metrics"
            " group by organization_id order by count(*) desc limit 1"
        )
        self._folder = folder
        self._contents: dict[str, list[dict[str, Any]]] = {}
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refreshing")
        self.refreshes = 0

    def __enter__(self) -> Refreshing:
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def questions(self) -> list[str]:
        """Windows of many lengths, of all partners and of each."""
        partners = sorted({row["partner_id"] for row in next(iter(self._contents.values()))})
        windows = [
            (FIRST_DAY + timedelta(days=start), FIRST_DAY + timedelta(days=start + length - 1))
            for start in range(0, DAYS, 3)
            for length in (1, 7, 30, 92)
        ]
        return [
            f"{DAILY}?from={first}&to={last}{partner}"
            for first, last in windows
            for partner in ("", *(f"&partner_id={name}" for name in partners[:4]))
        ]

    def expected(self, question: str, version: str) -> str | None:
        """The digest of the rows that a version held; None when nobody looked at it."""
        rows = self._contents.get(version)
        if rows is None:
            return None
        given = dict(pair.split("=") for pair in question.split("?")[1].split("&"))
        return digest_of(
            [
                row
                for row in rows
                if given["from"] <= row["day"] <= given["to"]
                and row["partner_id"] == given.get("partner_id", row["partner_id"])
            ]
        )

    def _run(self) -> None:
        try:
            with HandDaemon(self.built) as daemon:
                for step, folder in enumerate(self._corrections(), start=1):
                    if self._stop.wait(1):
                        return
                    assert self.built.load("oversight", folder).status == "landed"
                    daemon.at((START + step * STEP).replace(tzinfo=None).isoformat())
                    daemon.finish(600)
                    self.refreshes += self._note()
        except BaseException as error:
            self._error = error

    def _note(self) -> bool:
        ((version, content),) = self.built.rows(_CONTENT, (self.organization,))
        is_new = version not in self._contents
        self._contents[version] = exact(content)
        return is_new

    def _corrections(self) -> Iterator[Path]:
        """Ever newer versions of some records, each step others, with other amounts."""
        step = 0
        while True:
            step += 1
            folder = self._folder / str(step)
            folder.mkdir()
            with (folder / f"spend_{step}.csv").open("w", encoding="utf-8", newline="") as text:
                writer = csv.DictWriter(text, self._records[0])
                writer.writeheader()
                for number in range(_CORRECTIONS):
                    index = (_CORRECTIONS * step + number) % len(self._records)
                    record = dict(self._records[index])
                    record["spend_amount"] = f"{step % 97}.{number}0"
                    record["updated_at"] = f"{START + step * STEP:%Y-%m-%dT%H:%M:%SZ}"
                    writer.writerow(record)
            yield folder
