"""What `make run` says where something is missing; the installing itself is the first use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clusters import PROJECT_DIR

OLD = """#!/bin/sh
case "$2" in
    *python_version*) echo 3.8.10 ;;
    *) exit 1 ;;
esac
"""
WITHOUT_VENV = f"""#!/bin/sh
case "$2" in
    *ensurepip*) exit 1 ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what make needs, in a folder with a space in its name."""
    folder = tmp_path / "a checkout"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", ".ci/install", "requirements.txt", "pyproject.toml"):
        shutil.copy(PROJECT_DIR / name, folder / name)
    return folder


def _make(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {
        key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "PYTHON")
    }
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _python(folder: Path, script: str) -> Path:
    path = folder.parent / "python-of-a-test"
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_an_old_python_is_named_with_what_to_do(checkout: Path) -> None:
    done = _make(checkout, "run", f"PYTHON={_python(checkout, OLD)}")
    assert done.returncode != 0
    assert "is 3.8.10" in done.stderr
    assert "Oversight needs Python 3.10 to 3.13" in done.stderr
    assert not (checkout / ".venv").exists()


def test_no_python_at_all_is_named_with_what_to_do(checkout: Path) -> None:
    done = _make(checkout, "run", "PYTHON=/there/is/none")
    assert done.returncode != 0
    assert "there is no /there/is/none" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_a_missing_venv_module_is_named_with_its_package(checkout: Path) -> None:
    done = _make(checkout, "run", f"PYTHON={_python(checkout, WITHOUT_VENV)}")
    assert done.returncode != 0
    assert "lacks the venv module" in done.stderr
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_unchanged_lock_is_not_installed_again(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    program = checkout / ".venv" / "bin" / "oversight"
    program.write_text("#!/bin/sh\necho served $*\n")
    program.chmod(0o755)
    (checkout / ".venv" / ".requirements").touch()
    assert _make(checkout, "run").stdout == "served up\n"
    newer = (checkout / ".venv" / ".requirements").stat().st_mtime + 10
    os.utime(checkout / "requirements.txt", (newer, newer))
    assert "there is no /there/is/none" in _make(checkout, "run", "PYTHON=/there/is/none").stderr


@pytest.mark.parametrize(
    ("name", "least"),
    [("requirements.txt", 50), ("requirements-dev.txt", 50), ("requirements-bench.txt", 20)],
)
def test_locks_have_a_hash_for_everything_and_name_no_registry(name: str, least: int) -> None:
    text = (PROJECT_DIR / name).read_text(encoding="utf-8")
    blocks = [block for block in text.replace("\\\n", " ").splitlines() if "==" in block]
    assert len(blocks) > least
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    for forbidden in ("index-url", "find-links", "://", "file:"):
        assert forbidden not in text
