"""Pulls and backfills asked over HTTP: who may, what is refused, and one job per key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from administration import BACKFILLS, PULLS, admin, deploy_with_engines, with_engines
from api_warehouse import ApiWarehouse, served_by

from api.access.sessions import COOKIE
from clusters import Cluster

WEEKS = {"engine": "oversight", "from": "2026-01-07", "to": "2026-W03"}


@pytest.fixture(scope="module")
def warehouse(server18: Cluster, _made: str) -> Iterator[ApiWarehouse]:
    """Shared by callers of different names."""
    name = server18.create_database(template=_made)
    found = ApiWarehouse(settings=served_by(server18, server18.settings_for(name)))
    deploy_with_engines(found)
    yield found
    server18.drop_database(name)


class TestBackfills:
    def test_the_whole_weeks_of_the_range_are_asked_for_and_said(
        self, warehouse: ApiWarehouse
    ) -> None:
        caller = admin(warehouse, "asks-for-weeks")
        answer = caller.post(BACKFILLS, WEEKS, "k1")
        assert answer.status_code == 202, answer.text
        body: Any = answer.json
        assert (body["first_week"], body["last_week"]) == ("2026-W02", "2026-W03")
        assert (body["from"], body["to"], body["weeks"]) == ("2026-01-05", "2026-01-18", 2)
        assert (body["status"], body["percent"], body["failed_weeks"]) == ("pending", 0.0, [])
        assert answer.headers["Location"] == f"{BACKFILLS}/{body['id']}"
        assert "Idempotency-Replayed" not in answer.headers
        detail = caller.get(answer.headers["Location"]).json
        ledger = detail.pop("ledger")
        assert detail == body
        assert [(week["week"], week["status"]) for week in ledger] == [
            ("2026-W02", "pending"), ("2026-W03", "pending"),
        ]  # fmt: skip
        ((kind, arguments, by, of_backfill),) = warehouse.run(
            "select r.kind, r.arguments, r.requested_by, b.requested_by"
            " from metadata.job_requests as r join metadata.backfills as b using (request_id)"
            " where b.backfill_id = %s",
            body["id"],
        )
        assert (kind, arguments["from"], by, of_backfill) == (
            "backfill", "2026-W02", "asks-for-weeks", "asks-for-weeks",
        )  # fmt: skip

    def test_the_same_key_and_body_are_the_same_job(self, warehouse: ApiWarehouse) -> None:
        caller = admin(warehouse, "repeats")
        first = caller.post(BACKFILLS, WEEKS, "k1")
        for key in ("k1", '"k1"'):
            again = caller.post(BACKFILLS, dict(reversed(WEEKS.items())), key)
            assert (again.status_code, again.json) == (202, first.json)
            assert again.headers["Idempotency-Replayed"] == "true"
            assert again.headers["Location"] == first.headers["Location"]
        other_body = caller.post(BACKFILLS, WEEKS | {"to": "2026-W04"}, "k1")
        other_place = caller.post(PULLS, {"engine": "oversight"}, "k1")
        for answer in (other_body, other_place):
            assert answer.status_code == 422
            assert answer.json is not None
            assert answer.json["type"] == "urn:oversight:problem:idempotency-key-reused"
        another = caller.post(BACKFILLS, WEEKS, "k2")
        somebody = admin(warehouse, "somebody-else").post(BACKFILLS, WEEKS, "k1")
        ids = {item.json["id"] for item in (first, another, somebody) if item.json}
        assert len(ids) == 3, "keys are each caller's own"
        assert [row[2] for row in caller.trail()] == [
            "accepted", "replayed", "replayed", *["idempotency-key-reused"] * 2, "accepted",
        ]  # fmt: skip

    def test_they_are_paused_resumed_and_cancelled(self, warehouse: ApiWarehouse) -> None:
        caller = admin(warehouse, "changes")
        place = caller.post(BACKFILLS, WEEKS, "k1").headers["Location"]
        seen = [
            (verb, answer.status_code, (answer.json or {}).get("status"))
            for verb in ("pause", "pause", "resume", "cancel", "cancel", "resume", "pause")
            for answer in [caller.post(f"{place}/{verb}")]
        ]
        assert seen == [
            ("pause", 200, "paused"), ("pause", 200, "paused"), ("resume", 200, "pending"),
            ("cancel", 200, "cancelled"), ("cancel", 200, "cancelled"),
            ("resume", 409, 409), ("pause", 409, 409),
        ]  # fmt: skip
        only_failed = caller.post(BACKFILLS, WEEKS, "k2").headers["Location"]
        answer = caller.post(f"{only_failed}/resume", {"only_failed": True})
        assert answer.status_code == 409
        assert "no week that failed" in answer.text
        jobs = {row[0] for row in caller.trail("job_request_id")}
        assert len(jobs) == 2
        assert None not in jobs

    def test_they_are_listed_a_page_at_a_time(self, warehouse: ApiWarehouse) -> None:
        caller = admin(warehouse, "lists")
        made: list[Any] = [caller.post(BACKFILLS, WEEKS, f"k{n}").json for n in range(3)]
        first = caller.get(BACKFILLS, page_size=2).json
        assert [item["id"] for item in first["data"]] == [made[2]["id"], made[1]["id"]]
        second = caller.get(BACKFILLS, page_size=2, page=first["next_page"]).json
        assert second["data"][0] == made[0]
        everything = caller.get(BACKFILLS, page_size=500).json
        assert everything["next_page"] is None
        assert len(everything["data"]) >= 3
        assert caller.get(BACKFILLS, page_size=501).status_code == 400
        assert caller.get(BACKFILLS, page="x").status_code == 400

    @pytest.mark.parametrize("number", ["999", "999999999999999999", "9" * 5000, "0", "-1", "x"])
    def test_one_that_does_not_exist(self, warehouse: ApiWarehouse, number: str) -> None:
        caller = admin(warehouse, f"nobody-{len(number)}-{number[:3].strip('-')}")
        assert caller.get(f"{BACKFILLS}/{number}").status_code == 404
        assert caller.get(f"{PULLS}/{number}").status_code == 404
        assert caller.post(f"{BACKFILLS}/{number}/cancel").status_code == 404


class TestPulls:
    def test_one_engine_or_all_that_the_runner_knows(self, warehouse: ApiWarehouse) -> None:
        caller = admin(warehouse, "pulls")
        answer = caller.post(PULLS, {"engine": "oversight"}, "k1")
        assert answer.status_code == 202, answer.text
        body: Any = answer.json
        assert [item["engine"] for item in body["engines"]] == ["oversight"]
        assert (body["status"], body["requested_by"]) == ("pending", "pulls")
        assert caller.get(answer.headers["Location"]).json == body
        warehouse.run(
            "insert into metadata.jobs (job_name, kind, cadence)"
            " values ('pull else', 'pull', '* * * * *')"
        )
        everything = caller.post(PULLS, key="k2")
        assert everything.status_code == 202, everything.text
        found: Any = everything.json
        assert [item["engine"] for item in found["engines"]] == ["oversight"]

    def test_what_no_runner_knows_the_address_of_is_not_asked_for(
        self, warehouse: ApiWarehouse
    ) -> None:
        caller = admin(warehouse, "asks-in-vain")
        pull, weeks = {"engine": "oversight"}, caller.post(BACKFILLS, WEEKS, "known").json
        known = caller.post(PULLS, pull, "known-too").json
        jobs = "select count(*) from metadata.job_requests"
        before = warehouse.run(jobs)
        gone = warehouse.run("delete from metadata.jobs where kind = 'pull' returning job_name")
        try:
            for place, body in ((PULLS, None), (PULLS, pull), (BACKFILLS, WEEKS)):
                nothing = caller.post(place, body, key=f"k-{place}-{body is None}")
                assert (nothing.status_code, "nothing-to-pull" in nothing.text) == (409, True)
            assert warehouse.run(jobs) == before
            assert caller.post(BACKFILLS, WEEKS, "known").json == weeks
            assert caller.post(PULLS, pull, "known-too").json == known
        finally:
            for (name,) in gone:
                warehouse.run(
                    "insert into metadata.jobs (job_name, kind, cadence)"
                    " values (%s, 'pull', '* * * * *')",
                    name,
                )

    def test_several_engines_are_one_pull(self, warehouse: ApiWarehouse) -> None:
        warehouse.run(
            "insert into metadata.jobs (job_name, kind, cadence)"
            " select 'pull ' || e, 'pull', '* * * * *' from unnest('{a,b,c}'::text[]) as e"
        )
        warehouse.run("select metadata.request_pulls('{b,a,c}', 'several', 'f', 'somebody')")
        ((number,),) = warehouse.run(
            "select request_id from metadata.job_requests where idempotency_key = 'several'"
        )
        caller = admin(warehouse, "several")
        states = []
        for engine, status in (("a", "running"), ("a", "done"), ("b", "failed"), ("c", "done")):
            warehouse.run(
                "update metadata.job_requests set status = %s, finished_at = case when %s not in"
                " ('pending', 'running') then now() end where arguments ->> 'engine' = %s"
                " and requested_by = 'somebody'",
                status, status, engine,
            )  # fmt: skip
            body = caller.get(f"{PULLS}/{number}").json
            states.append(body["status"])
        assert states == ["running", "running", "running", "failed"]
        assert [item["engine"] for item in body["engines"]] == ["a", "b", "c"]


class TestWhoMay:
    @pytest.mark.parametrize("role", ["reader", "agent", "monitoring", "operator"])
    def test_other_roles_are_refused(self, warehouse: ApiWarehouse, role: str) -> None:
        caller = admin(warehouse, f"is-{role}", role)
        refused = caller.post(BACKFILLS, WEEKS, "k")
        assert (refused.status_code, "one that may administer" in refused.text) == (403, True)
        assert caller.post(PULLS, {}, "k").status_code == 403
        assert caller.get(BACKFILLS).status_code == 403
        assert [row[1:] for row in caller.trail()] == [(403, "forbidden")] * 3

    @pytest.mark.parametrize(
        "scope", [{"organization": ["alpha"]}, {"organization": ["*"], "partner": ["x"]}]
    )
    def test_an_admin_who_sees_some_is_refused(
        self, warehouse: ApiWarehouse, scope: dict[str, list[str]]
    ) -> None:
        caller = admin(warehouse, f"sees-{'-'.join(scope)}", scope=scope)
        answer = caller.post(BACKFILLS, WEEKS, "k")
        assert (answer.status_code, "all organizations" in answer.text) == (403, True)

    def test_a_cookie_is_no_credential_here(self, warehouse: ApiWarehouse) -> None:
        caller = admin(warehouse, "logged-in")
        cookie = caller.client.flask.application.extensions["oversight"].authenticator.log_in(
            caller.client.key, address=""
        )
        caller.client.flask.set_cookie(COOKIE, cookie)
        reports = "/api/reporting/v1/marts"
        assert caller.client.flask.get(reports).status_code == 200, "the cookie works"
        empty = caller.client.flask.get(BACKFILLS, headers={"Authorization": ""})
        assert empty.status_code == 401
        assert caller.client.flask.get(BACKFILLS).status_code == 401
        assert caller.client.flask.post(BACKFILLS, json=WEEKS).status_code == 401


class TestGuardrails:
    @pytest.mark.parametrize(
        ("body", "member", "says"),
        [
            ({}, "engine", "required"),
            (WEEKS | {"engine": "nope"}, "engine", "not declared"),
            (WEEKS | {"engine": "reddit_ads"}, "engine", "can't be asked for old weeks"),
            (WEEKS | {"engine": 5}, "engine", "no name"),
            (WEEKS | {"engine": None}, "engine", "null"),
            (WEEKS | {"from": "2026-02-01"}, "from", "after to"),
            (WEEKS | {"from": "2026-01-18", "to": "2026-01-12"}, "from", "after to"),
            (WEEKS | {"from": "2024-01-01"}, "from", "at most 52"),
            (WEEKS | {"from": "2026-02-30"}, "from", "does not exist"),
            (WEEKS | {"from": "2025-W53"}, "from", "does not exist"),
            (WEEKS | {"from": "9999-W52", "to": "9999-W52"}, "from", "does not exist"),
            (WEEKS | {"to": "9999-12-31"}, "to", "in the future"),
            (WEEKS | {"to": ["2026-W03"]}, "to", "neither"),
            (WEEKS | {"to": "2026-W3"}, "to", "neither"),
            (WEEKS | {"weeks": 3}, "weeks", "known are engine, from, to"),
            ([WEEKS], "body", "no JSON object"),
            (b'{"engine": "oversight", "engine": "x"}', "engine", "more than once"),
        ],
    )
    def test_a_wrong_member_is_named(
        self, warehouse: ApiWarehouse, body: Any, member: str, says: str
    ) -> None:
        caller = _guarded(warehouse)
        answer = caller.post(BACKFILLS, body, "k")
        assert answer.status_code == 422, answer.text
        errors = {item["parameter"]: item["message"] for item in (answer.json or {})["errors"]}
        assert says in errors[member]
        assert caller.trail()[-1] == ("request_backfill", 422, "invalid-body")

    def test_tomorrow_is_refused_and_today_is_not(self, warehouse: ApiWarehouse) -> None:
        caller = _guarded(warehouse)
        today = datetime.now(timezone.utc).date()
        for days, status in ((0, 202), (2, 422)):
            day = str(today + timedelta(days=days))
            body = {"engine": "oversight", "from": str(today), "to": day}
            answer = caller.post(BACKFILLS, body, f"in-{days}")
            assert answer.status_code == status, answer.text

    def test_closed_weeks_are_refused(self, warehouse: ApiWarehouse) -> None:
        caller = _guarded(warehouse)
        warehouse.deploy(replace(with_engines(), closed_before="2026-01-12"))
        caller.client.flask.application.extensions["oversight"].catalogue._compared_at = 0
        try:
            answer = caller.post(BACKFILLS, WEEKS, "closed")
        finally:
            warehouse.deploy(replace(with_engines(), nightly="1 1 * * *"))
            caller.client.flask.application.extensions["oversight"].catalogue._compared_at = 0
        assert (answer.status_code, "are closed" in answer.text) == (422, True)

    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            (b"{", {}, 400),
            (b"[" * 4000, {}, 400),
            (b'{"engine": NaN}', {}, 400),
            (b"\xff\xfe", {}, 400),
            (b'{"engine": "' + b"x" * 5000 + b'"}', {}, 413),
            (b'{"engine": "oversight"}', {"Content_Type": "text/plain"}, 415),
            (b'{"engine": "\\u0000\\ud800", "from": 1e999999}', {}, 422),
            (b'{"\\u0000": 1}', {}, 422),
        ],
    )
    def test_hostile_bodies(
        self, warehouse: ApiWarehouse, body: bytes, headers: dict[str, str], status: int
    ) -> None:
        caller = _guarded(warehouse)
        for place in (BACKFILLS, PULLS, f"{BACKFILLS}/1/resume", f"{BACKFILLS}/1/pause"):
            answer = caller.post(place, body, "k", **headers)
            assert answer.status_code == status, f"{place}: {answer.text}"
            assert caller.trail()[-1][1] == status

    @pytest.mark.parametrize("key", [None, "", " ", "a b", "é", '"', '"a', "x" * 201])
    def test_a_key_is_needed(self, warehouse: ApiWarehouse, key: str | None) -> None:
        caller = _guarded(warehouse)
        answer = caller.post(BACKFILLS, WEEKS, key)
        assert (answer.status_code, "Idempotency-Key" in answer.text) == (400, True)


_callers: dict[int, Any] = {}


def _guarded(warehouse: ApiWarehouse) -> Any:
    """One caller for all guardrails."""
    if id(warehouse) not in _callers:
        _callers[id(warehouse)] = admin(warehouse, "guarded")
    return _callers[id(warehouse)]
