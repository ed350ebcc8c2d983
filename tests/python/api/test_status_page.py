"""The status page shows what the caller may know, escapes what it shows, and runs no script."""

from __future__ import annotations

import re

import pytest
from api_warehouse import ApiWarehouse, Client
from status_data import HOSTILE, SECRET_ERROR
from werkzeug.test import TestResponse

from api.pages import words

SECTIONS = ("Marts", "Lag against the SLA", "Parity with the engines", "Backfills in progress",
            "Runs", "Latency of the API")  # fmt: skip


@pytest.fixture(scope="module")
def operator(filled: ApiWarehouse) -> Client:
    return filled.client(filled.key("operator", role="operator", organization=["*"]))


@pytest.fixture(scope="module")
def reader(filled: ApiWarehouse) -> Client:
    return filled.client(filled.key("reader", organization=["alpha"]))


def shown(client: Client, path: str = "/") -> str:
    response: TestResponse = client.get(path)
    assert response.status_code == 200, response.text
    assert response.content_type == "text/html; charset=utf-8"
    return response.text


def section(text: str, heading: str) -> str:
    return text.split(f'<h2 id="{heading}">')[1].split("<h2")[0]


def test_each_section_is_there_for_everyone(operator: Client, reader: Client) -> None:
    for client in (operator, reader):
        text = shown(client)
        for name in SECTIONS:
            assert f">{name}</h2>" in text


def test_an_organization_sees_nothing_of_another(reader: Client) -> None:
    text = shown(reader)
    for foreign in ("beta", "1 h 57 min", "5 keys", words.count(987654321)):
        assert foreign not in text, foreign
    assert "alpha_ads" in section(text, "backfills")
    assert "daily_metrics: 4 keys disagree" in section(text, "parity")
    assert section(text, "runs").count("<tr>") == 21


def test_a_stranger_sees_names_of_marts_and_no_figure(filled: ApiWarehouse) -> None:
    text = shown(filled.client(filled.key("stranger", organization=["gamma"])))
    for foreign in ("alpha", "beta", "reddit_ads", "disagree with"):
        assert foreign not in text
    assert "Nothing landed." in text


def test_a_partner_sees_no_other_partners_keys(filled: ApiWarehouse) -> None:
    key = filled.key("partner", organization=["alpha"], partner=["reddit_ads:1"])
    text = shown(filled.client(key))
    assert "script" not in section(text, "parity")
    assert "No key that was compared disagrees" in text


def test_errors_and_alerts_are_for_who_operates_and_sees_all(
    filled: ApiWarehouse, operator: Client, reader: Client
) -> None:
    assert SECRET_ERROR in section(shown(operator), "runs")
    assert words.count(987654321) in section(shown(operator), "runs")
    assert "daily_metrics of beta is late" in section(shown(operator), "alerts")
    of_alpha = filled.client(filled.key("alpha ops", role="operator", organization=["alpha"]))
    everyones = filled.client(filled.key("all reader", organization=["*"]))
    for client in (reader, of_alpha, everyones):
        text = shown(client)
        assert SECRET_ERROR not in text
        assert "no runner leads" not in text


def test_a_role_sees_its_marts_only(operator: Client, reader: Client) -> None:
    assert 'id="lag-operations"' in shown(operator)
    assert "operations" not in shown(reader)


def test_hostile_names_stay_text(operator: Client) -> None:
    text = shown(operator)
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&#34;&#39;{{7*7}}" in text
    assert "49" not in re.findall(r"&#39;(\S*?)</td>", text)


def test_the_page_may_run_nothing_and_ask_nobody(operator: Client) -> None:
    response = operator.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "private, no-store"
    assert not re.findall(r"<script|<style|\sstyle=|\son\w+=|javascript:", response.text)
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', response.text)
    assert addresses
    assert [item for item in addresses if not item.startswith(("/", "#"))] == []


def test_each_chart_has_a_name_a_description_and_its_figures(operator: Client) -> None:
    text = shown(operator)
    charts = re.findall(r"<svg[^>]*class=\"chart\".*?</svg>", text, re.DOTALL)
    assert len(charts) == 4, "none of a mart for which nothing landed"
    for chart in charts:
        names = re.findall(r'aria-labelledby="(\S+) (\S+)"', chart)[0]
        assert [name for name in names if f'id="{name}">' not in chart] == []
    assert text.count("<details>") == 4, "a table beside each chart that shows something"
    late = re.findall(r"<desc.*?passed in (\d+) of", text)
    assert len(late) == 4
    assert min(map(int, late)) > 0


def test_lag_is_the_wait_of_the_callers_own_data(filled: ApiWarehouse, reader: Client) -> None:
    text = section(shown(reader), "lag")
    assert "Longest 24 min; the SLA is 15 min, passed in 1 of" in text
    assert re.search(r">\d min", section(shown(reader), "marts")), "what waits now"
    assert "Longest 3 h" not in text
    of_beta = filled.client(filled.key("beta reader", organization=["beta"]))
    assert "Longest 3 h" in section(shown(of_beta), "lag"), "what waits now is in the chart, too"


def test_it_is_loaded_again_by_itself_only_when_asked(operator: Client) -> None:
    assert "Refresh" not in operator.get("/").headers
    assert operator.get("/", every="60").headers["Refresh"] == "60"
    assert "Refresh" not in operator.get("/", every="1").headers


def test_without_marts_it_says_so(own: ApiWarehouse) -> None:
    own.run("truncate metadata.data_versions")
    text = shown(own.client(own.key("reader", organization=["alpha"])))
    assert "2 marts of 2 without data" in text
    assert "no slot yet" in text


def test_a_problem_is_a_page_too(own: ApiWarehouse) -> None:
    client = own.client(own.key("reader", organization=["alpha"]))
    own.run("truncate metadata.catalogue")
    response = client.get("/", {"Accept": "text/html"})
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert response.content_type == "text/html; charset=utf-8"
    assert "no catalogue is deployed yet" in response.text
    assert client.get("/").content_type == "application/problem+json"


def test_style_needs_no_key_and_is_all_there_is(filled: ApiWarehouse) -> None:
    nobody = filled.client(None)
    assert nobody.get("/static/page.css").status_code == 200
    for path in ("/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        assert nobody.get(path).status_code in (401, 404), path


def test_latency_is_of_the_callers_marts_and_counts_are_for_who_operates(
    filled: ApiWarehouse, operator: Client
) -> None:
    same_app = filled.client(None)
    reader = Client(same_app.flask, filled.key("latency reader", organization=["alpha"]))
    operator = Client(same_app.flask, operator.key)
    assert "Not measured yet." in section(shown(reader), "latency")
    for client in (reader, operator):
        client.get("daily-metrics")
        client.get("operations")
        client.get("/api/admin/etl/pull-reporting/1")
    of_reader, of_operator = (section(shown(who), "latency") for who in (reader, operator))
    assert "/api/reporting/v1/daily-metrics" in of_reader
    assert re.search(r"[0-9.]+ ms", of_reader)
    assert "Requests</th>" not in of_reader
    assert "/api/admin" not in of_reader
    assert "/api/admin/etl/pull-reporting/{pull_id}</th>" in of_operator
    assert of_reader.count('<td class="number">-</td>') == 2 * (of_reader.count("<tr>") - 1)
    for _ in range(20):
        client.get("daily-metrics")
    (row,) = re.findall(r"daily-metrics</th>.*", section(shown(reader), "latency"))
    assert row.count(" ms</td>") == 3
    assert "operations" not in of_reader
    assert "Requests</th>" in of_operator
    assert "/api/reporting/v1/operations" in of_operator


@pytest.mark.parametrize(
    ("scope", "alerts", "backfills"),
    [("{*}", True, 2), ("{alpha}", False, 1), ("{gamma}", False, 0), ("{}", False, 0)],
)
def test_the_database_itself_shows_no_reader_what_is_anothers(
    filled: ApiWarehouse, scope: str, alerts: bool, backfills: int
) -> None:
    (found,) = filled.run(
        "select set_config('oversight.scope_organization', %s, false);"
        " select (select count(*) > 0 from metadata.visible_alerts()),"
        " (select count(*) from metadata.visible_backfills()),"
        " (select count(distinct organization_id) from metadata.mart_waits)",
        scope,
        role="oversight_reader",
    )
    assert found == (alerts, backfills, backfills)
