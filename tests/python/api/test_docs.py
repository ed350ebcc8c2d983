"""/docs and what it needs come from this host, and show nobody what is another's."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from api_warehouse import CATALOGUE, ApiWarehouse, Client
from landings import SPEND

from api.app import create_app

SITE = "<!doctype html><script defer>run()</script><p>docs</p><script>another()</script>"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    return read_only.client(read_only.key("docs", organization=["alpha"]))


def with_site(warehouse: ApiWarehouse, home: Path, key: str) -> Client:
    settings = replace(warehouse.settings, home=home)
    settings.warehouse_docs_path.parent.mkdir(parents=True)
    settings.warehouse_docs_path.write_text(SITE)
    return Client(create_app(settings).test_client(), key)


def test_docs_take_script_and_style_from_this_host_alone(client: Client) -> None:
    response = client.get("/docs")
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", response.text)
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', response.text)
    for address in addresses:
        assert address.startswith(("/", "#")), address
    for address in (item for item in addresses if item.endswith((".js", ".css", ".svg", ".json"))):
        assert client.get(address).status_code == 200, address


def test_of_the_package_only_what_the_page_needs_is_served(client: Client) -> None:
    style = client.get("/docs/swagger-ui/swagger-ui.css")
    assert style.content_type.startswith("text/css")
    assert style.headers["Cache-Control"] == "private, max-age=3600", "kept by nobody between"
    for name in ("oauth2-redirect.html", "../__init__.py", "%2e%2e%2f__init__.py", "nope.js"):
        assert client.get(f"/docs/swagger-ui/{name}").status_code == 404, name


def test_a_browser_without_a_login_is_sent_to_the_form(read_only: ApiWarehouse) -> None:
    nobody = read_only.client(None)
    for path in ("/docs", "/docs/warehouse"):
        response = nobody.get(path, HTML)
        assert (response.status_code, response.headers["Location"]) == (303, f"/login?next={path}")
        assert nobody.get(path).status_code == 401


def test_the_warehouses_docs_say_how_they_are_made_while_there_are_none(client: Client) -> None:
    response = client.get("/docs/warehouse")
    assert response.status_code == 404
    assert "oversight docs" in response.text


def test_the_warehouses_docs_may_run_their_first_script_and_no_other(
    read_only: ApiWarehouse, tmp_path: Path
) -> None:
    client = with_site(read_only, tmp_path, read_only.key("site", organization=["alpha"]))
    response = client.get("/docs/warehouse")
    assert response.text == SITE
    allowed = base64.b64encode(hashlib.sha256(b"run()").digest()).decode()
    policy = response.headers["Content-Security-Policy"]
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{allowed}'"]
    assert "connect-src" not in policy, "default-src 'none' stands: it asks nobody"
    assert "default-src 'none'" in policy


def test_docs_that_name_an_organization_are_for_who_sees_it(
    own: ApiWarehouse, tmp_path: Path
) -> None:
    own.deploy(replace(CATALOGUE, sources=(replace(SPEND, organization_value="beta"),)))
    for name, organizations, status in (
        ("alpha", ["alpha"], 403),
        ("both", ["alpha", "beta"], 200),
        ("all", ["*"], 200),
    ):
        key = own.key(name, organization=organizations)
        client = with_site(own, tmp_path / name, key)
        response = client.get("/docs/warehouse", HTML)
        assert response.status_code == status, name
        assert ("docs</p>" in response.text) is (status == 200)
