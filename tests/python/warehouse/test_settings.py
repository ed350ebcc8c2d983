"""Settings: a wrong variable is named, a secret is never shown."""

from pathlib import Path

import pytest

from clusters import PROJECT_DIR
from warehouse.errors import SettingsError
from warehouse.settings import RateLimit, load_settings

URL = "postgresql://someone:secret@host/name"
SESSIONS = {
    "OVERSIGHT_JWT_SECRET": "s" * 32,
    "OVERSIGHT_JWT_ISSUER": "https://login.example",
    "OVERSIGHT_JWT_AUDIENCE": "oversight",
}


def test_with_nothing_set_it_is_the_checkout_and_its_embedded_server() -> None:
    settings = load_settings({})
    assert settings.project_dir == PROJECT_DIR
    assert settings.home == PROJECT_DIR / ".oversight"
    assert settings.is_embedded
    assert (settings.api_host, settings.api_port, settings.api_workers) == ("127.0.0.1", 8080, 2)
    assert settings.signing_key is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OVERSIGHT_API_PORT": "no"}, "OVERSIGHT_API_PORT"),
        ({"OVERSIGHT_API_PORT": "0"}, "OVERSIGHT_API_PORT"),
        ({"OVERSIGHT_API_PORT": "65536"}, "OVERSIGHT_API_PORT"),
        ({"OVERSIGHT_API_PORT": "-1"}, "OVERSIGHT_API_PORT"),
        ({"OVERSIGHT_API_WORKERS": "0"}, "OVERSIGHT_API_WORKERS"),
        ({"OVERSIGHT_LOG_SAMPLE": "1.5"}, "OVERSIGHT_LOG_SAMPLE"),
        ({"OVERSIGHT_LOG_SAMPLE": "nan"}, "OVERSIGHT_LOG_SAMPLE"),
        ({"OVERSIGHT_DBT": "cold"}, "OVERSIGHT_DBT"),
        ({"OVERSIGHT_DATABASE_URL": "mysql://host/name"}, "OVERSIGHT_DATABASE_URL"),
        ({"OVERSIGHT_DIRECT_DATABASE_URL": URL}, "OVERSIGHT_DIRECT_DATABASE_URL"),
        ({"OVERSIGHT_API_DATABASE_URL": "host"}, "OVERSIGHT_API_DATABASE_URL"),
        ({"OVERSIGHT_PROJECT_DIR": "/there/is/none"}, "OVERSIGHT_PROJECT_DIR"),
        ({"OVERSIGHT_SIGNING_KEY": "short"}, "OVERSIGHT_SIGNING_KEY"),
        ({"OVERSIGHT_RATE_LIMITS": "standard=0/hour"}, "OVERSIGHT_RATE_LIMITS"),
        ({"OVERSIGHT_RATE_LIMITS": "gold=5/hour"}, "OVERSIGHT_RATE_LIMITS"),
        ({"OVERSIGHT_RATE_LIMITS": "standard=5/week"}, "OVERSIGHT_RATE_LIMITS"),
        ({"OVERSIGHT_RATE_LIMITS": "1000/hour"}, "OVERSIGHT_RATE_LIMITS"),
        ({"OVERSIGHT_RATE_LIMIT_URL": "http://host"}, "OVERSIGHT_RATE_LIMIT_URL"),
        ({**SESSIONS, "OVERSIGHT_JWT_SECRET": "s" * 31}, "OVERSIGHT_JWT_SECRET"),
        ({"OVERSIGHT_JWT_SECRET": "s" * 32}, "OVERSIGHT_JWT_ISSUER"),
        ({**SESSIONS, "OVERSIGHT_JWT_AUDIENCE": ""}, "OVERSIGHT_JWT_AUDIENCE"),
        ({**SESSIONS, "OVERSIGHT_JWT_JWKS": "/keys.json"}, "sessions need one of OVERSIGHT_JWT"),
        ({**SESSIONS, "OVERSIGHT_JWT_SECRET": ""}, "sessions need one of OVERSIGHT_JWT"),
        ({"OVERSIGHT_SIGNING_KEY_FILE": "/there/is/none"}, "OVERSIGHT_SIGNING_KEY_FILE"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=f"^{named}"):
        load_settings(environ)


def test_a_secret_may_come_from_a_file_but_not_from_both(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{URL}\n")
    from_file = {"OVERSIGHT_DATABASE_URL_FILE": str(tmp_path / "url")}
    assert load_settings(from_file).database_url == URL
    with pytest.raises(SettingsError, match="both set"):
        load_settings({**from_file, "OVERSIGHT_DATABASE_URL": URL})
    (tmp_path / "url").write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        load_settings(from_file)


def test_no_secret_is_in_the_text_of_settings() -> None:
    redis = {"OVERSIGHT_RATE_LIMIT_URL": "redis://:secret@host"}
    settings = load_settings(
        {**SESSIONS, **redis, "OVERSIGHT_DATABASE_URL": URL, "OVERSIGHT_SIGNING_KEY": "k" * 40}
    )
    assert "secret" not in repr(settings)
    assert "s" * 32 not in repr(settings)
    assert "kkk" not in repr(settings)


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load_settings({"OVERSIGHT_DATABASE_URL": "", "OVERSIGHT_API_PORT": ""}) == load_settings(
        {}
    )


def test_addresses_of_alerts_are_separated_by_commas_and_lines_but_not_within(
    tmp_path: Path,
) -> None:
    text = "json://u:hidden@h/x, slack://A/B\n\nmailto://u:p@h?to=a,b,\n"
    found = ("json://u:hidden@h/x", "slack://A/B", "mailto://u:p@h?to=a,b")
    assert load_settings({"OVERSIGHT_ALERTS": text}).alerts == found
    (tmp_path / "alerts").write_text(text)
    settings = load_settings({"OVERSIGHT_ALERTS_FILE": str(tmp_path / "alerts")})
    assert settings.alerts == found
    assert "hidden" not in repr(settings)
    assert load_settings({"OVERSIGHT_ALERTS": " "}).alerts == ()


def test_a_wrong_address_of_alerts_is_named_by_its_place_alone() -> None:
    with pytest.raises(SettingsError, match=r"^OVERSIGHT_ALERTS: the 2\. address") as raised:
        load_settings({"OVERSIGHT_ALERTS": "json://h, slack://hid den"})
    assert "hid" not in str(raised.value)


def test_limits_and_sessions_are_read_whole() -> None:
    settings = load_settings({**SESSIONS, "OVERSIGHT_RATE_LIMITS": "standard=5/minute"})
    assert settings.rate_limits["standard"] == RateLimit(amount=5, seconds=60)
    assert settings.rate_limits["enterprise"] == RateLimit(amount=10_000, seconds=3600)
    assert settings.sessions is not None
    assert (settings.sessions.issuer, settings.sessions.jwks) == ("https://login.example", None)
    keys = {"OVERSIGHT_JWT_SECRET": "", "OVERSIGHT_JWT_JWKS": "keys.json"}
    with_keys = load_settings({**SESSIONS, **keys}).sessions
    assert with_keys is not None
    assert with_keys.jwks == Path("keys.json").absolute()
    assert load_settings({}).sessions is None
