"""The count of records by line ends, against Python's own CSV reader, over any cut into chunks."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.landing import scan as extract_scan
from runner.landing.scan import Scan, scan

FIELD = st.text(alphabet='ab," \n\r', max_size=6)
RECORDS = st.lists(st.lists(FIELD, min_size=2, max_size=3), min_size=1, max_size=8)


def scanned(path: Path, content: bytes, *, encoding: str = "utf-8", is_csv: bool = True) -> Scan:
    path.write_bytes(content)
    return scan(path, encoding=encoding, is_text=True, is_csv=is_csv)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    records=RECORDS,
    end=st.sampled_from(["\n", "\r\n"]),
    blanks=st.integers(0, 2),
    is_cut=st.booleans(),
    chunk=st.sampled_from([1, 2, 3, 7, 1 << 20]),
)
def test_records_are_counted_as_the_csv_module_counts_them(
    tmp_path: Path,
    encoding: str,
    records: list[list[str]],
    end: str,
    blanks: int,
    is_cut: bool,
    chunk: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end * (blanks + 1), quoting=csv.QUOTE_ALL)
    writer.writerows(records)
    content = text.getvalue()
    content = content.rstrip("\r\n") if is_cut else content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_scan, "_CHUNK_BYTES", chunk * (2 if encoding == "utf-16" else 1))
        result = scanned(
            tmp_path / "x.csv", content.encode(encoding), encoding=encoding.removesuffix("-sig")
        )
    assert len(records) in result.records
    assert result.has_final_newline is not is_cut
    assert result.digest == hashlib.sha256(content.encode(encoding)).hexdigest()


def test_lines_of_json_are_counted_without_blank_ones(tmp_path: Path) -> None:
    content = b'\n{"a": "\\""}\n  \n\t\n{"a": 1}\n \n{"a": 2}'
    assert 3 in scanned(tmp_path / "x.jsonl", content, is_csv=False).records


def test_nul_bytes_are_seen(tmp_path: Path) -> None:
    assert scanned(tmp_path / "x.csv", b"a,b\n1,\x00\n").has_nul
    assert not scanned(tmp_path / "x.csv", b"a,b\n1,2\n").has_nul
