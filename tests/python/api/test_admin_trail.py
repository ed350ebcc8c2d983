"""The audit trail of the administration: a row for each call, or nothing is done."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from administration import BACKFILLS, PULLS, Admin, admin, deploy_with_engines
from api_traffic import tell
from api_warehouse import ApiWarehouse, Client
from tokens import AUDIENCE, ISSUER, SECRET, token

from api.administration.audit import LOCK_TIMEOUT_MS
from api.app import create_app
from api.database.pool import Pool
from api.front.bodies import Bodies
from api.problems import ProblemError
from warehouse import database
from warehouse.settings import RateLimit, SessionSettings

WEEK = {"engine": "oversight", "from": "2026-W02", "to": "2026-W02"}


@pytest.fixture
def warehouse(own: ApiWarehouse) -> ApiWarehouse:
    deploy_with_engines(own)
    return own


def test_a_row_says_who_asked_what_from_where_and_what_came_of_it(warehouse: ApiWarehouse) -> None:
    caller = admin(warehouse, "told-of")
    answer: Any = caller.post(
        BACKFILLS, WEEK, "key-1", X_Request_Id="req-1", X_Forwarded_For="10.1.2.3"
    )
    (row,) = caller.trail(
        "principal_name, role, method, path, action, body, idempotency_key, host(client_address),"
        " request_id, status, outcome, called_at between now() - interval '1 minute' and now(),"
        " job_request_id = (select max(request_id) from metadata.job_requests)"
    )
    assert answer.status_code == 202
    assert row == (
        "told-of", "admin", "POST", BACKFILLS, "request_backfill", WEEK, "key-1", "127.0.0.1",
        "req-1", 202, "accepted", True, True,
    )  # fmt: skip
    assert (caller.client.key or "")[3:] not in str(
        warehouse.run("select * from metadata.audit_log")
    )


@pytest.mark.parametrize(
    ("proxies", "sent", "address"),
    [
        (0, "10.1.2.3", "127.0.0.1"),
        (1, "6.6.6.6, 10.1.2.3", "10.1.2.3"),
        (2, "6.6.6.6, 10.1.2.3, 10.9.9.9", "10.1.2.3"),
        (2, "10.1.2.3", "127.0.0.1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "'; drop table x", None),
    ],
)
def test_an_address_that_is_forwarded_counts_behind_trusted_proxies_alone(
    warehouse: ApiWarehouse, proxies: int, sent: str, address: str | None
) -> None:
    caller = admin(warehouse, "forwarded")
    settings = replace(warehouse.settings, trusted_proxies=proxies)
    behind = Admin(warehouse, Client(create_app(settings).test_client(), caller.client.key))
    assert behind.get(BACKFILLS, {"X-Forwarded-For": sent}).status_code == 200
    assert caller.trail("host(client_address)") == [(address,)]


def test_every_refused_call_has_its_row_but_those_of_nobody(warehouse: ApiWarehouse) -> None:
    caller, reader = admin(warehouse, "refused"), admin(warehouse, "a-reader", "reader")
    place = caller.post(BACKFILLS, WEEK, "k").headers["Location"]
    flask, headers = caller.client.flask, caller.client.headers()
    answers = [
        caller.post(BACKFILLS, WEEK),
        caller.get("/api/admin/nope"),
        caller.get("/api/admin"),
        caller.get("/api/admin/\x00%00\ud7ff" + "x" * 3000),
        flask.delete(place, headers=headers),
        flask.open(BACKFILLS, method="OPTIONS", headers=headers),
        caller.get(BACKFILLS, {"Accept": "text/csv"}),
        caller.post(f"{place}/resume", {"only_failed": True}),
        caller.post(BACKFILLS, b"x" * 5000, "k2"),
        caller.post(BACKFILLS, WEEK, "k2", Content_Type="text/plain"),
        caller.post(BACKFILLS, {}, "k2"),
        caller.get(f"{BACKFILLS}/99"),
        caller.get(place, x=1),
    ]
    expected = [400, 404, 404, 404, 405, 405, 406, 409, 413, 415, 422, 404, 400]
    assert [answer.status_code for answer in answers] == expected
    assert caller.trail("status") == [(202,), *[(status,) for status in expected]]
    ids = [(answer.headers["X-Request-Id"],) for answer in answers]
    assert caller.trail("request_id")[1:] == ids
    assert reader.post(PULLS, {}, "k").status_code == 403
    assert reader.get("/api/reporting/v1/marts").status_code == 200
    assert reader.trail() == [("request_pull", 403, "forbidden")]
    before = warehouse.run("select count(*) from metadata.audit_log")
    assert flask.post(BACKFILLS, json=WEEK).status_code == 401
    assert flask.post(BACKFILLS, headers={"Authorization": "Bearer ov_x"}).status_code == 401
    assert warehouse.run("select count(*) from metadata.audit_log") == before


def test_what_was_sent_is_kept_cut_when_it_is_refused(warehouse: ApiWarehouse) -> None:
    caller = admin(warehouse, "sends-odd-things")
    caller.post(BACKFILLS, b'{"engine": "\x00\xff", "note": "' + b"y" * 3000 + b'"}', "k")
    ((body,),) = caller.trail("body")
    assert body.startswith('{"engine": "\ufffd\ufffd", "note": "yyy')
    assert len(body) == 1000


@pytest.mark.parametrize(
    "fault",
    [
        "revoke insert on metadata.audit_log from oversight_admin; revoke insert (call_id) on"
        " metadata.audit_log from oversight_admin",
        "drop policy admin_adds on metadata.audit_log",
        "alter table metadata.audit_log add check (status < 100) not valid",
    ],
)
def test_without_its_row_nothing_is_done(warehouse: ApiWarehouse, fault: str) -> None:
    caller = admin(warehouse, "not-noted")
    place = caller.post(BACKFILLS, WEEK, "k").headers["Location"]
    state = "select count(*), max(status) from metadata.backfills"
    jobs = "select count(*) from metadata.job_requests"
    before = warehouse.run(state), warehouse.run(jobs)
    warehouse.run(fault)
    for answer in (
        caller.post(BACKFILLS, WEEK, "k2"),
        caller.post(PULLS, {"engine": "oversight"}, "k3"),
        caller.post(f"{place}/cancel"),
        caller.get(place),
        caller.post(BACKFILLS, {}, "k4"),
        caller.get("/api/admin/nope"),
    ):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.text
    assert (warehouse.run(state), warehouse.run(jobs)) == before
    assert len(caller.trail()) == 1


def test_a_call_that_the_pool_sends_twice_counts_once(
    warehouse: ApiWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does when the connection was lost with the answer; what asks again is told the job."""
    caller = admin(warehouse, "sent-twice")
    place = caller.post(BACKFILLS, WEEK, "k").headers["Location"]
    read = Pool.read

    def twice(pool: Pool, message: Any) -> Any:
        if "audit_log" in repr(message):
            read(pool, message)
        return read(pool, message)

    with monkeypatch.context() as patch:
        patch.setattr(Pool, "read", twice)
        lost = caller.post(BACKFILLS, WEEK, "k2")
        assert (lost.status_code, "answer-lost" in lost.text) == (503, True)
        assert caller.post(f"{place}/cancel").status_code == 503
    again = caller.post(BACKFILLS, WEEK, "k2")
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert caller.get(place).json["status"] == "cancelled"
    assert [row[2] for row in caller.trail()] == ["accepted", "accepted", "ok", "replayed", "ok"]
    assert warehouse.run("select count(*) from metadata.backfills") == [(2,)]


def test_a_key_that_another_call_is_using_is_waited_for_and_then_refused(
    warehouse: ApiWarehouse,
) -> None:
    caller = admin(warehouse, "waits")
    ((number,),) = warehouse.run("select principal_id from metadata.principals where name='waits'")
    other = database.connect(warehouse.settings)
    with other.cursor() as cursor:
        cursor.execute(
            "insert into metadata.job_requests (kind, idempotency_key) values ('pull', %s)",
            (f"api {number} k",),
        )
        start = time.monotonic()
        refused = caller.post(BACKFILLS, WEEK, "k")
        took = time.monotonic() - start
    other.close()
    assert (refused.status_code, refused.headers["Retry-After"]) == (409, "1")
    tell(f"another call holds the key: refused after {took:.2f} s")
    assert took >= LOCK_TIMEOUT_MS / 1000
    assert caller.post(BACKFILLS, WEEK, "k").status_code == 202
    assert [row[2] for row in caller.trail()] == ["request-in-progress", "accepted"]


def test_what_the_edge_refuses_has_its_row_and_calls_over_the_quota_one_a_minute(
    warehouse: ApiWarehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caller = admin(warehouse, "over-quota")
    limits = {"standard": RateLimit(amount=3, seconds=3600)}
    settings = replace(warehouse.settings, rate_limits=limits, home=tmp_path)
    bounded = Admin(warehouse, Client(create_app(settings).test_client(), caller.client.key))

    def busy(*_: Any, **__: Any) -> None:
        raise ProblemError(503, "busy", "not now")

    with monkeypatch.context() as patch:
        patch.setattr(Bodies, "read", busy)
        assert [bounded.post(BACKFILLS, WEEK, "k").status_code for _ in range(2)] == [503] * 2
    answers = [bounded.post(BACKFILLS, WEEK, "k") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, *[429] * 3]
    assert int(answers[-1].headers["Retry-After"]) > 3000
    assert caller.trail("status, outcome") == [
        *[(503, "busy")] * 2, (202, "accepted"), (429, "rate-limited"),
    ]  # fmt: skip


def test_a_person_is_told_by_the_subject_of_the_session(warehouse: ApiWarehouse) -> None:
    sessions = SessionSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET)
    flask = create_app(replace(warehouse.settings, sessions=sessions)).test_client()
    everything = {"organization": ["*"], "partner": ["*"]}
    for subject, scope, status in (
        ("ada@example.com", everything, 202),
        ("ada@example.com", {"organization": ["*"]}, 403),
        ("odd\x00name", everything, 202),
    ):
        session = token(role="admin", sub=subject, scope=scope)
        answer = flask.post(
            BACKFILLS,
            json=WEEK,
            headers={"Authorization": f"Bearer {session}", "Idempotency-Key": "k"},
        )
        assert answer.status_code == status, answer.text
    assert warehouse.run(
        "select principal_name, principal_id ~ '^session-[0-9a-f]{24}$', status"
        " from metadata.audit_log order by audit_id"
    ) == [
        ("ada@example.com", True, 202),
        ("ada@example.com", True, 403),
        ("odd\ufffdname", True, 202),
    ]
    assert "ada" not in str(warehouse.run("select requested_by from metadata.job_requests"))
