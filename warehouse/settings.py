"""Settings, read from the environment once, so that a wrong one stops the start and not a run."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from warehouse.errors import SettingsError

SIGNING_KEY_MIN_CHARACTERS = 32
DEFAULT_RATE_LIMITS = "standard=1000/hour,enterprise=10000/hour"
_WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE_LIMIT = re.compile(r"(standard|enterprise)=([1-9][0-9]{0,11})/(second|minute|hour|day)")
# A comma within an address, such as between two recipients, separates nothing.
_NEXT_ADDRESS = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9]*://)")
_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/-]*)?")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9]*://\S+")


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """How many requests a caller may make in a window of so many seconds."""

    amount: int
    seconds: int


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """Which sessions (JWT) the API takes: signed with a secret, or by a key of a JWKS file."""

    issuer: str
    audience: str
    secret: str | None = field(default=None, repr=False)
    jwks: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the project, its data and its database are.

    Without `database_url` the embedded server in `home` is meant.
    """

    project_dir: Path
    home: Path
    database_url: str | None = field(default=None, repr=False)
    direct_database_url: str | None = field(default=None, repr=False)
    api_database_url: str | None = field(default=None, repr=False)
    api_direct_database_url: str | None = field(default=None, repr=False)
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    api_workers: int = 2
    log_share: float = 1.0
    trusted_proxies: int = 0
    """How many proxies before the API add the caller's address to X-Forwarded-For."""
    """The share of successful requests that the API logs; errors and slow ones always are."""
    api_cache_mb: int = 64
    """How much each worker may keep of answers."""
    api_stale_seconds: int = 300
    """How long the last known answers are served while the database is away."""
    is_dbt_warm: bool = True
    """Whether the runner keeps dbt's imports and parsed project in a process of their own."""
    signing_key: str | None = field(default=None, repr=False)
    """From the environment; None means the file `signing_key_path`, which `oversight up` makes."""
    api_url: str | None = None
    """Where the API is called, by browsers and the MCP adapter; None means this host's own port."""
    api_key: str | None = field(default=None, repr=False)
    """What the MCP adapter calls the API with on standard input and output."""
    rate_limits: Mapping[str, RateLimit] = field(
        default_factory=lambda: _rate_limits(DEFAULT_RATE_LIMITS)
    )
    """By tier."""
    rate_limit_url: str | None = field(default=None, repr=False)
    """A Redis that counts for several machines; None means a file in `home`."""
    sessions: SessionSettings | None = None
    """None means that keys alone are taken."""
    alerts: tuple[str, ...] = field(default=(), repr=False)
    """Addresses that Apprise sends to; they hold passwords and tokens."""

    @property
    def signing_key_path(self) -> Path:
        """The file that holds the signing key of a single host."""
        return self.home / "signing.key"

    @property
    def warehouse_docs_path(self) -> Path:
        """The page that `oversight docs` makes and the API shows."""
        return self.home / "docs" / "warehouse.html"

    @property
    def reached_api_url(self) -> str:
        """Where the API is called."""
        return self.api_url or f"http://127.0.0.1:{self.api_port}"

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the embedded server."""
        return self.database_url is None


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check every `OVERSIGHT_*` variable; a SettingsError names the wrong one."""
    checkout = Path(__file__).resolve().parent.parent
    project_dir = Path(environ.get("OVERSIGHT_PROJECT_DIR") or checkout).expanduser().absolute()
    if not (project_dir / "dbt_project.yml").is_file() and "OVERSIGHT_PROJECT_DIR" in environ:
        raise SettingsError(
            f"OVERSIGHT_PROJECT_DIR: {project_dir} holds no dbt_project.yml; "
            "set it to the folder that does, or unset it to use the checkout"
        )
    home = Path(environ.get("OVERSIGHT_HOME") or project_dir / ".oversight").expanduser().absolute()
    database_url = _url(environ, "OVERSIGHT_DATABASE_URL")
    direct = _url(environ, "OVERSIGHT_DIRECT_DATABASE_URL")
    if direct and not database_url:
        raise SettingsError(
            "OVERSIGHT_DIRECT_DATABASE_URL is set without OVERSIGHT_DATABASE_URL; set both or none"
        )
    signing_key = secret(environ, "OVERSIGHT_SIGNING_KEY")
    if signing_key is not None and len(signing_key) < SIGNING_KEY_MIN_CHARACTERS:
        raise SettingsError(
            f"OVERSIGHT_SIGNING_KEY has {len(signing_key)} characters; give it at least "
            f"{SIGNING_KEY_MIN_CHARACTERS} random ones, such as those of `openssl rand -hex 32`"
        )
    return Settings(
        project_dir=project_dir,
        home=home,
        database_url=database_url,
        direct_database_url=direct,
        api_database_url=_url(environ, "OVERSIGHT_API_DATABASE_URL"),
        api_direct_database_url=_url(environ, "OVERSIGHT_API_DIRECT_DATABASE_URL"),
        api_host=environ.get("OVERSIGHT_API_HOST") or "127.0.0.1",
        api_port=_integer(environ, "OVERSIGHT_API_PORT", default=8080, least=1, most=65535),
        api_workers=_integer(environ, "OVERSIGHT_API_WORKERS", default=2, least=1, most=64),
        log_share=_share(environ, "OVERSIGHT_LOG_SAMPLE"),
        trusted_proxies=_integer(environ, "OVERSIGHT_TRUSTED_PROXIES", default=0, least=0, most=10),
        api_cache_mb=_integer(environ, "OVERSIGHT_API_CACHE_MB", default=64, least=0, most=65536),
        api_stale_seconds=_integer(
            environ, "OVERSIGHT_API_STALE_SECONDS", default=300, least=0, most=86400
        ),
        is_dbt_warm=_choice(environ, "OVERSIGHT_DBT", ("warm", "subprocess")) == "warm",
        signing_key=signing_key,
        rate_limits=_rate_limits(environ.get("OVERSIGHT_RATE_LIMITS") or ""),
        rate_limit_url=_redis_url(environ, "OVERSIGHT_RATE_LIMIT_URL"),
        sessions=_sessions(environ),
        api_url=_web_address(environ, "OVERSIGHT_API_URL"),
        api_key=secret(environ, "OVERSIGHT_API_KEY"),
        alerts=_addresses(environ, "OVERSIGHT_ALERTS"),
    )


def secret(environ: Mapping[str, str], name: str) -> str | None:
    """The variable, or the content of the file that `<name>_FILE` points to; never both."""
    file_name = f"{name}_FILE"
    value, path = environ.get(name), environ.get(file_name)
    if value and path:
        raise SettingsError(f"{name} and {file_name} are both set; unset one of them")
    if not path:
        return value or None
    try:
        content = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file_name}: can't read {path}: {error}") from error
    if not content:
        raise SettingsError(f"{file_name}: {path} is empty; put the secret into it")
    return content


def _rate_limits(text: str) -> dict[str, RateLimit]:
    """The limits of a text such as `standard=1000/hour`; tiers that it leaves out have theirs."""
    found: dict[str, RateLimit] = {}
    for part in [*DEFAULT_RATE_LIMITS.split(","), *filter(None, text.split(","))]:
        match = _RATE_LIMIT.fullmatch(part.strip())
        if match is None:
            raise SettingsError(
                f"OVERSIGHT_RATE_LIMITS: {part.strip()!r} is no limit; it looks like"
                f" {DEFAULT_RATE_LIMITS}, with second, minute, hour or day"
            )
        tier, amount, unit = match.groups()
        found[tier] = RateLimit(amount=int(amount), seconds=_WINDOWS[unit])
    return found


def _redis_url(environ: Mapping[str, str], name: str) -> str | None:
    url = secret(environ, name)
    if url is not None and not url.startswith(("redis://", "rediss://", "redis+unix://")):
        raise SettingsError(f"{name} is no address of a Redis; it looks like redis://host:6379/0")
    return url


def _sessions(environ: Mapping[str, str]) -> SessionSettings | None:
    """What sessions are verified with; all of it or nothing."""
    secret_ = secret(environ, "OVERSIGHT_JWT_SECRET")
    jwks = environ.get("OVERSIGHT_JWT_JWKS")
    issuer = environ.get("OVERSIGHT_JWT_ISSUER")
    audience = environ.get("OVERSIGHT_JWT_AUDIENCE")
    if not (secret_ or jwks or issuer or audience):
        return None
    if bool(secret_) == bool(jwks):
        raise SettingsError(
            "sessions need one of OVERSIGHT_JWT_SECRET and OVERSIGHT_JWT_JWKS, and not both"
        )
    for name, value in (("OVERSIGHT_JWT_ISSUER", issuer), ("OVERSIGHT_JWT_AUDIENCE", audience)):
        if not value:
            raise SettingsError(f"{name} is not set; a session of anybody else would count")
    if secret_ is not None and len(secret_.encode()) < SIGNING_KEY_MIN_CHARACTERS:
        raise SettingsError(
            f"OVERSIGHT_JWT_SECRET is shorter than {SIGNING_KEY_MIN_CHARACTERS} bytes"
        )
    return SessionSettings(
        issuer=str(issuer),
        audience=str(audience),
        secret=secret_,
        jwks=Path(jwks).expanduser().absolute() if jwks else None,
    )


def _url(environ: Mapping[str, str], name: str) -> str | None:
    url = secret(environ, name)
    if url is not None and not url.startswith(("postgresql://", "postgres://")):
        raise SettingsError(
            f"{name} is no PostgreSQL address; it looks like postgresql://user:password@host/name"
        )
    return url


def _web_address(environ: Mapping[str, str], name: str) -> str | None:
    url = environ.get(name) or None
    if url is not None and not _WEB_ADDRESS.fullmatch(url):
        raise SettingsError(f"{name} is {url!r}; it looks like https://oversight.example.com")
    return url.rstrip("/") if url else None


def _addresses(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The addresses of a list; an error says which is wrong, and nothing of what it holds."""
    found = tuple(_NEXT_ADDRESS.split((secret(environ, name) or "").strip(" ,\r\n")))
    if found == ("",):
        return ()
    for place, address in enumerate(found, start=1):
        if not _ADDRESS.fullmatch(address):
            raise SettingsError(
                f"{name}: the {place}. address is none; addresses look like "
                "slack://... or mailto://..., with a comma or a new line between them"
            )
    return found


def _choice(environ: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """One of the choices; the first when nothing is set."""
    text = environ.get(name) or choices[0]
    if text not in choices:
        raise SettingsError(f"{name} is {text!r}; it must be {' or '.join(choices)}")
    return text


def _share(environ: Mapping[str, str], name: str) -> float:
    """A share from 0 to 1; all when nothing is set."""
    text = environ.get(name) or "1"
    if not re.fullmatch(r"0(\.[0-9]+)?|1(\.0+)?", text):
        raise SettingsError(f"{name} is {text!r}; it must be a share from 0 to 1, such as 0.01")
    return float(text)


def _integer(environ: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}; it must be a whole number, {least} to {most}")
    return int(text)
