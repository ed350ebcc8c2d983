"""The site of dbt docs as one file, which the API shows at /docs/warehouse."""

from __future__ import annotations

import re
from pathlib import Path

from warehouse import dbt
from warehouse.errors import OversightError
from warehouse.settings import Settings

_TAIL_LINES = 15
# dbt's page asks for an icon under a name that was never filled in, and calls /overview/ its own.
_BROKEN_ICON = re.compile(r'<link rel="(?:shortcut icon|canonical)"[^>]*>')


class SiteError(OversightError):
    """The docs could not be made; the message holds dbt's own words."""


def build_site(settings: Settings) -> Path:
    """Describe the project and what the database holds of it; the page there was stays until then.

    Marts should be built: dbt looks at them. It asks no other host.
    """
    page = settings.warehouse_docs_path
    target = page.parent / "target"
    target.mkdir(parents=True, exist_ok=True)
    made = target / "static_index.html"
    made.unlink(missing_ok=True)
    done = dbt.run(settings, "docs", "generate", "--static", target_path=target)
    if done.returncode != 0 or not made.exists():
        tail = "\n".join((done.stdout + done.stderr).rstrip().splitlines()[-_TAIL_LINES:])
        raise SiteError(
            f"dbt could not make the docs; are the marts built (`oversight refresh`)?\n{tail}"
        )
    new = page.with_suffix(".new")
    text = _BROKEN_ICON.sub("", made.read_text(encoding="utf-8"), count=2)
    new.write_text(text, encoding="utf-8")
    new.replace(page)
    return page
