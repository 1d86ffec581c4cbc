from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from worldexplorer.errors import DefectError, ErrorClass
from worldexplorer.records import SCHEMA_VERSION, ErrorEntry, FileEntry, InputEntry, Retry, StageRecord

TIME = "2026-01-01T00:00:00+00:00"


def record(**changes: Any) -> StageRecord:
    values: dict[str, Any] = {
        "stage": "splat",
        "index": 7,
        "variant": "stylized",
        "status": "committed",
        "run_id": "run",
        "attempt": "splat-0123",
        "fingerprint": "ab" * 32,
        "basis": {"settings": {"cfg": [4.0, 2.0], "name": None}},
        "input": InputEntry(stage="trajectory", fingerprint="cd" * 32, content="ef" * 32),
        "engine": "preview",
        "engine_label": "synthesised preview",
        "code_version": "1",
        "versions": {"python": "3.12"},
        "seed": 0,
        "started_at": TIME,
        "finished_at": TIME,
        "seconds": 1.25,
        "peak_memory_mib": 100.5,
        "retries": [Retry(error_class=ErrorClass.TRANSIENT, message="reset")],
        "quality": "degraded",
        "notes": ["a note"],
        "metrics": {"psnr": 30.5, "views": [1, 2], "none": None},
        "outputs": {"export_path": "splat/splat.ply"},
        "files": [FileEntry(path="b", size=1, sha256="01"), FileEntry(path="a", size=2, sha256="02")],
        "supersedes": ["old"],
        "published": True,
    }
    return StageRecord(**(values | changes))


def test_a_record_comes_back_from_its_file() -> None:
    one = record()
    assert StageRecord.from_json(one.to_json(), where="x") == one
    failure = record(
        status="failed",
        error=ErrorEntry(error_class=ErrorClass.USER, message="m", where="w", remedy="r", log_tail=["line"]),
    )
    assert StageRecord.from_json(failure.to_json(), where="x") == failure


def test_a_file_is_for_people_too() -> None:
    text = record().to_json().decode()
    assert text.endswith("}\n")
    assert json.loads(text)["schema_version"] == SCHEMA_VERSION
    assert "\n " in text


def test_content_depends_on_the_files_and_nothing_else() -> None:
    one = record()
    assert one.content == record(files=one.files[::-1], seed=1, run_id="other", attempt="other").content
    assert one.content != record(files=one.files[:1]).content
    assert one.content != record(files=[one.files[0], replace(one.files[1], sha256="03")]).content
    assert one.content != record(files=[one.files[0], replace(one.files[1], path="c")]).content


def test_files_are_found_by_path() -> None:
    one = record()
    assert one.file("a") == one.files[1]
    assert one.file("c") is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stage": None}, "stage"),
        ({"surprise": 1}, "surprise"),
        ({"status": "maybe"}, "status"),
        ({"finished_at": "yesterday"}, "finished_at"),
        ({"files": [{"path": "a", "size": "big", "sha256": ""}]}, "files.0.size"),
        ({"files": [{"path": "a", "size": 1}]}, "files.0.sha256"),
        ({"files": [{"path": "a", "size": 1, "sha256": "", "more": 1}]}, "files.0.more"),
        ({"schema_version": SCHEMA_VERSION + 1}, f"this version reads {SCHEMA_VERSION}"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: dict[str, Any], named: str) -> None:
    document = json.loads(record().to_json()) | change
    with pytest.raises(DefectError) as caught:
        StageRecord.from_json(json.dumps(document).encode(), where="records/splat.json")
    assert named in caught.value.what
    assert caught.value.where == "records/splat.json"
    assert "--force" in caught.value.remedy


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", record().to_json()[:-40]])
def test_half_a_file_is_refused(data: bytes) -> None:
    with pytest.raises(DefectError, match="cannot be read"):
        StageRecord.from_json(data, where="x")
