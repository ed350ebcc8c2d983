"""Copies of the dbt project that a test may change."""

import shutil
from pathlib import Path

from clusters import PROJECT_DIR

_PARTS = (
    "dbt_project.yml",
    "profiles.yml",
    "models",
    "macros",
    "seeds",
    "snapshots",
    "tests/generic",
    "tests/integrity",
    "tests/parity",
)


def copy_project(folder: Path) -> Path:
    """Copy what dbt and the catalogue read, without Python and without artifacts."""
    for part in _PARTS:
        source, target = PROJECT_DIR / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


def edit(project: Path, file: str, old: str, new: str) -> None:
    """Replace the first `old` in a file; a test whose fault does not land fails here."""
    path = project / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{file} holds no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
