"""A new engine is a folder of YAML and SQL, a new mart one SQL file and one entry; no Python."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from api_warehouse import SIGNING_KEY, ApiWarehouse, Client
from projects import copy_project

from clusters import Cluster
from runner.landing.load import load_engine
from runner.runs.refresh import refresh
from warehouse.catalogue import Catalogue, deploy
from warehouse.settings import Settings

SOURCES = """
sources:
  - name: tiktok
    description: TikTok's daily reports per ad.
    schema: staging
    config:
      meta: {landing: {organization: {value: acme}, zone: UTC, mode: append}}
    tables:
      - name: advertiser
        identifier: tiktok__advertiser
        description: Accounts. One row per account and version of it.
        config: {meta: {landing: {files: ["advertiser*.jsonl"], key: [advertiser_id]}}}
        columns:
          - name: advertiser_id
            data_type: text
            description: Identifier of the account.
            config: {meta: {scope: partner}}
          - {name: name, data_type: text, description: Name; NULL when there is none.}
      - name: ad
        identifier: tiktok__ad
        description: Ads. One row per ad and version of it.
        config:
          meta:
            landing: {files: ["ads*.csv"], key: [ad_id], version: {column: updated_at}}
        columns:
          - {name: ad_id, data_type: text, description: Identifier of the ad.}
          - name: campaign_id
            data_type: text
            description: Campaign of the ad.
            config: {meta: {required: true}}
          - name: advertiser_id
            data_type: text
            description: Account that pays.
            config: {meta: {required: true, scope: partner}}
          - name: updated_at
            data_type: timestamptz
            description: When the ad was last changed.
            config: {meta: {formats: ["%d.%m.%Y %H:%M"], required: true}}
      - name: ad_report
        identifier: tiktok__ad_report
        description: Delivery. One row per ad, day and version of it.
        config:
          meta:
            landing: {files: ["ad_report*.csv"], key: [ad_id, stat_day], date: {column: stat_day}}
        columns:
          - name: ad_id
            data_type: text
            description: Ad that was shown.
            config: {meta: {parent: ad.ad_id}}
          - name: stat_day
            data_type: date
            description: Calendar day of the account.
            config: {meta: {formats: ["%d.%m.%Y"]}}
          - {name: cost, data_type: numeric, description: Amount in units; NULL counts as none.}
          - {name: impressions, data_type: bigint, description: Times shown; NULL counts as none.}
          - {name: clicks, data_type: bigint, description: Clicks; NULL counts as none.}
          - {name: sales, data_type: bigint, description: Number of sales; NULL counts as none.}
"""
MODELS = """
models:
  - name: stg_tiktok__partners
    description: TikTok's accounts. One row per account.
    config: {meta: {feed: {records_from: advertiser}}}
  - name: stg_tiktok__spend
    description: TikTok's spend. One row per ad and day.
    config: {meta: {feed: {records_from: ad_report}}}
  - name: stg_tiktok__events
    description: TikTok's sales. One row per ad and day with sales.
    config: {meta: {feed: {records_from: ad_report}}}
"""
PARTNERS = """
{% macro partners_feed__tiktok() %}{{ ref("stg_tiktok__partners") }}{% endmacro %}

select
    organization_id,
    record_key,
    'tiktok:' || advertiser_id as partner_id,
    name,
    null::text as region,
    null::text as status
from {{ newest_records(source("tiktok", "advertiser")) }} as advertisers
"""
REPORT = """
{% macro FEED_feed__tiktok() %}{{ ref("stg_tiktok__FEED") }}{% endmacro %}

select
    reports.organization_id,
    reports.record_key,
    {{ reporting_midnight("reports.stat_day") }} as occurred_at,
    reports.stat_day as day,
    'tiktok:' || coalesce(ads.advertiser_id, 'unknown') as partner_id,
    'tiktok:' || ads.campaign_id as campaign_id,
    MEASURES
from {{ newest_records(source("tiktok", "ad_report")) }} as reports
left join
    {{ newest_record(source("tiktok", "ad"), "reports.organization_id", "reports.ad_id") }} as ads
    on true
"""
SPEND = """coalesce(reports.cost, 0) as spend_amount,
    coalesce(reports.clicks, 0) as clicks,
    coalesce(reports.impressions, 0) as impressions"""
EVENTS = """'sale'::text as event_type,
    coalesce(reports.sales, 0) as event_count,
    0::numeric as amount"""
MART = """
  - name: daily_campaign_spend
    description: Spend of campaigns. One row per organization, day and campaign.
    config:
      meta:
        mart:
          grain: [organization_id, day, campaign_id]
          cadence: "30 5 * * mon-fri"
          freshness_sla: 1d
          refresh: changed_keys
          window: {column: day, default: 7d, max: 31d}
          filters: [campaign_id]
          scope: {organization: organization_id}
          readers: [reader]
    data_tests:
      - unique_key: {arguments: {columns: [organization_id, day, campaign_id]}}
    columns:
      - name: organization_id
        data_type: text
        description: Organization that paid.
        constraints: [{type: not_null}]
      - name: day
        data_type: date
        description: Day of the spend.
        constraints: [{type: not_null}]
      - name: campaign_id
        data_type: text
        description: Campaign that was paid for.
        constraints: [{type: not_null}]
      - name: spend
        data_type: numeric
        description: Amount spent.
        constraints: [{type: not_null}]
"""
MART_SQL = """
select
    organization_id,
    day,
    campaign_id,
    sum(spend_amount)::numeric as spend
from {{ touched(ref("fact_spend")) }}
where campaign_id is not null
group by organization_id, day, campaign_id
"""
Rows = list[dict[str, object]]


def _declare_engine(project: Path) -> None:
    folder = project / "models/staging/tiktok"
    folder.mkdir()
    files = {
        "_tiktok__sources.yml": SOURCES,
        "_tiktok__models.yml": MODELS,
        "stg_tiktok__partners.sql": PARTNERS,
        "stg_tiktok__spend.sql": REPORT.replace("FEED", "spend").replace("MEASURES", SPEND),
        "stg_tiktok__events.sql": REPORT.replace("FEED", "events").replace("MEASURES", EVENTS)
        + "where coalesce(reports.sales, 0) <> 0\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text.lstrip(), encoding="utf-8")


def _declare_mart(project: Path) -> None:
    folder = project / "models/reporting"
    with (folder / "_reporting__models.yml").open("a", encoding="utf-8") as file:
        file.write(MART)
    (folder / "daily_campaign_spend.sql").write_text(MART_SQL.lstrip(), encoding="utf-8")


def _land(settings: Settings, catalogue: Catalogue, folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    report = load_engine(settings, catalogue, "tiktok", folder)
    assert report.is_clean, report


def _figures(rows: Rows) -> list[tuple[object, ...]]:
    names = ("day", "partner_id", "spend", "impressions", "clicks", "events", "revenue")
    return [tuple(row[name] for name in names) for row in rows]


@pytest.fixture
def api(server18: Cluster, warehouse: Settings, tmp_path: Path) -> ApiWarehouse:
    """A fresh warehouse whose project is a copy that the test may extend."""
    login = server18.settings_for(Cluster.name_of(warehouse), user="oversight_api")
    settings = replace(
        warehouse,
        project_dir=copy_project(tmp_path / "project"),
        api_database_url=login.database_url,
        signing_key=SIGNING_KEY,
    )
    return ApiWarehouse(settings=settings)


def test_a_folder_of_yaml_and_sql_is_an_engine_and_one_entry_a_mart(
    api: ApiWarehouse, tmp_path: Path
) -> None:
    extracts = tmp_path / "tiktok"
    extracts.mkdir()
    _declare_engine(api.settings.project_dir)
    catalogue = deploy(api.settings)
    accounts = [{"advertiser_id": "900", "name": "Ädvertiser"}, {"advertiser_id": "901"}]
    _land(
        api.settings,
        catalogue,
        extracts,
        {
            "advertisers.jsonl": "".join(json.dumps(item) + "\n" for item in accounts),
            "ads.csv": "ad_id,campaign_id,advertiser_id,updated_at\n"
            "a,c1,900,01.10.2026 10:00\nb,c2,901,01.10.2026 10:00\n",
            "ad_report_october.csv": "ad_id,stat_day,cost,impressions,clicks,sales,note\n"
            "a,05.10.2026,1.10,100,7,2,x\nb,05.10.2026,0.25,10,,,x\na,06.10.2026,2.000001,1,0,0,x\n"
            "z,06.10.2026,9.99,3,1,0,x\n",
        },
    )
    refresh(api.settings)
    everything = api.client(api.key("everything", organization=["acme"], partner=["*"]))
    one = api.client(api.key("one", organization=["acme"], partner=["tiktok:900"]))
    other = api.client(api.key("other", organization=["default"], partner=["*"]))
    window = {"from_": "2026-10-01", "to": "2026-10-31"}

    def served(client: Client = everything) -> list[tuple[object, ...]]:
        return _figures([row for page in client.pages("daily-metrics", **window) for row in page])

    first = ("2026-10-05", "tiktok:900", Decimal("1.10"), 100, 7, 2, 0)
    second = ("2026-10-05", "tiktok:901", Decimal("0.25"), 10, 0, 0, 0)
    third = ("2026-10-06", "tiktok:900", Decimal("2.000001"), 1, 0, 0, 0)
    orphan = ("2026-10-06", "tiktok:unknown", Decimal("9.99"), 3, 1, 0, 0)
    assert served() == [first, second, third, orphan]
    assert served(one) == [first, third]
    assert served(other) == []
    names = dict(api.run("select partner_id, name from curated.dim_partner"))
    assert names == {"tiktok:900": "Ädvertiser", "tiktok:901": None, "tiktok:unknown": None}

    # The orphan's ad arrives, and the other ad moves to the first account.
    _land(
        api.settings,
        catalogue,
        extracts,
        {
            "ads_later.csv": "ad_id,campaign_id,advertiser_id,updated_at\n"
            "z,c1,901,02.10.2026 10:00\nb,c2,900,02.10.2026 10:00\n"
        },
    )
    refresh(api.settings)
    assert served() == [
        ("2026-10-05", "tiktok:900", Decimal("1.35"), 110, 7, 2, 0),
        third,
        ("2026-10-06", "tiktok:901", Decimal("9.99"), 3, 1, 0, 0),
    ]

    before = everything.get("daily-campaign-spend")
    assert before.status_code == 404
    _declare_mart(api.settings.project_dir)
    deploy(api.settings)
    refresh(api.settings, ["daily_campaign_spend"])
    client = api.client(api.key("marts", organization=["acme"]))
    rows = [row for page in client.pages("daily-campaign-spend", **window) for row in page]
    assert rows == [
        {"day": "2026-10-05", "campaign_id": "tiktok:c1", "spend": Decimal("1.10")},
        {"day": "2026-10-05", "campaign_id": "tiktok:c2", "spend": Decimal("0.25")},
        {"day": "2026-10-06", "campaign_id": "tiktok:c1", "spend": Decimal("11.990001")},
    ]
    filtered = client.pages("daily-campaign-spend", campaign_id="tiktok:c2", **window)
    assert [row["campaign_id"] for page in filtered for row in page] == ["tiktok:c2"]
    too_long = client.get("daily-campaign-spend", from_="2026-09-01", to="2026-10-31")
    assert too_long.status_code == 400
    assert "31" in too_long.text
    stranger = api.client(api.key("stranger", organization=["default"]))
    assert stranger.pages("daily-campaign-spend", **window) == [[]]

    # The new mart is refreshed by change as the others are.
    _land(
        api.settings,
        catalogue,
        extracts,
        {
            "ad_report_more.csv": "ad_id,stat_day,cost,impressions,clicks,sales\n"
            "a,06.10.2026,2,1,0,0\n"
        },
    )
    refresh(api.settings)
    assert client.pages("daily-campaign-spend", **window)[0][2]["spend"] == Decimal("11.99")
