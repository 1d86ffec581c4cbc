from __future__ import annotations

import io

import pytest
from cli_plans import a_failure, a_result, a_summary, fresh, prepared_batch, refused, reused, with_a_bad_photo

from worldexplorer.cli.dry_run import dry_run_events, dry_run_report
from worldexplorer.cli.output import PlainConsole
from worldexplorer.cli.tables import LINES_SHOWN, ROWS_SHOWN, summary_report
from worldexplorer.plan import NotRun


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")


def text_of(parts) -> str:
    stream = io.StringIO()
    PlainConsole(stream).show(parts)
    return stream.getvalue()


def report(summary: dict, width: int = 150) -> list:
    return summary_report(summary, width)


def row(text: str, job: str) -> list[str]:
    """The words of a job's row of a table."""
    lines = [line.split() for line in text.splitlines()]
    (words,) = [words for words in lines if words[:1] == [job] and words[2:3] != ["failed:"]]
    return words


# --- the summary


def test_a_row_has_status_seconds_quality_and_the_splat():
    text = text_of(report(a_summary([a_result(0)])))
    cells = ["photorealistic/index_0000", "success", "2.0 s", "20.4 s", "1:01", "35.0", "33.9"]
    world = "photorealistic/index_0000/splat/splat.ply"
    assert row(text, "photorealistic/index_0000") == " ".join([*cells, world]).split()
    headings = text.splitlines()[:2]
    assert headings[0].split() == ["PSNR", "dB", "PSNR", "dB"]
    assert headings[1].split() == ["job", "status", "scaffold", "trajectory", "splat", "train", "heldout", "world"]


def test_a_narrow_terminal_gets_a_table_that_fits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    metrics = {"psnr_train": 35.04, "psnr_heldout": 33.91, "psnr_input_view": 31.0}
    text = text_of(report(a_summary([a_result(0, metrics=metrics)]), 80))
    rows = [line.split() for line in text.splitlines()[3:5]]
    assert rows == [
        ["photorealistic/", "success", "2.0", "s", "20.4", "s", "1:01", "35.0", "33.9", "31.0"],
        ["index_0000"],
    ]


def test_below_stand_the_counts_the_engine_and_where_to_look():
    text = text_of(report(a_summary([a_result(0), a_result(3)])))
    assert "finished after 1:24: 2 jobs: 2 success  [synthesised preview]" in text
    assert "out/batch_summary.json has everything" in text
    assert "look at   out/photorealistic/index_0000/contact_sheet.png (2 contact sheets)" in text
    assert "walk in   drop out/photorealistic/index_0000/splat/splat_rotated.ply on https://superspl.at/editor" in text
    assert "--indices" not in text


def test_failures_say_what_where_and_what_to_do_and_how_to_run_them_again():
    text = text_of(report(a_summary([a_result(0), a_failure(2), a_failure(7)])))
    assert "photorealistic/index_0002 scaffold failed: the photo is black (7.png). What to do: x" in text.splitlines()
    assert "again     run the same command with: --indices 2 7" in text.splitlines()
    assert row(text, "photorealistic/index_0007")[1] == "failed"


def test_jobs_that_did_not_run_say_why_and_poor_ones_that_they_are():
    stopped = a_result(4, "skipped", reason="the run was interrupted")
    degraded = a_result(5, quality="degraded")
    text = text_of(report(a_summary([stopped, degraded], interrupted=True)))
    assert "photorealistic/index_0004 skipped: the run was interrupted" in text
    assert row(text, "photorealistic/index_0005")[1:3] == ["success", "(degraded)"]
    assert "interrupted after 1:24: 2 jobs: 1 success, 1 skipped" in text


def test_a_large_run_shows_what_needs_a_person_and_counts_the_rest():
    results = [a_result(index) for index in range(10_000)]
    for index in (9_000, 9_500):
        results[index] = a_failure(index)
    text = text_of(report(a_summary(results)))
    rows = [line for line in text.splitlines() if line.startswith("photorealistic/index_") and " failed:" not in line]
    assert len(rows) == ROWS_SHOWN
    assert rows[-2].split()[:2] == ["photorealistic/index_9000", "failed"]
    assert "... and 9,950 more jobs in batch_summary.json" in text


def test_error_lines_are_bounded():
    text = text_of(report(a_summary([a_failure(index) for index in range(100)])))
    assert text.count("scaffold failed:") == LINES_SHOWN
    assert "... and 80 more" in text


def test_a_run_without_a_world_advises_nothing():
    text = text_of(report(a_summary([a_result(0, "skipped", reason="x")])))
    assert "superspl.at" not in text
    assert "look at" not in text


def test_nothing_of_a_result_is_taken_for_markup():
    failed = a_failure(0)
    failed["error"]["message"] = "[red]no[/red] \x1b[2J"
    text = text_of(report(a_summary([failed], warnings=["[bold]w"])))
    assert "[red]no[/red]  [2J" in text
    assert "warning: [bold]w" in text


# --- the dry run


def test_each_stage_says_what_happens_and_why(tmp_path):
    prepared = prepared_batch([fresh(0), reused(1), refused(2), with_a_bad_photo(3)], tmp_path)
    text = text_of(dry_run_report(prepared, missing=[]))
    lines = text.splitlines()
    assert lines[2].startswith("photorealistic/index_0000  run: no result yet ")
    assert "reuse: finished before" in lines[3]
    assert "refuse: stage 2 has a result made with other" in text
    assert "not reached" in text
    assert "will fail: the photo has 1 x 1 pixels" in text
    assert (
        "4 jobs: 1 to run, 1 finished before, 2 that will fail; stages: 6 run, 4 reuse, 1 refuse  "
        "[synthesised preview]" in lines
    )
    assert lines[-1] == "dry run: nothing was written"


def test_what_is_skipped_odd_or_missing_is_said(tmp_path):
    prepared = prepared_batch(
        [fresh(0)],
        tmp_path,
        skipped=(NotRun(index=4, variant="stylized", reason='path "4.png": it does not exist'),),
        warnings=("unknown key samples[].author ignored", "samples without any job: 4"),
    )
    text = text_of(dry_run_report(prepared, missing=["stage 1 needs SEVA"]))
    assert 'skipped: sample 4, stylized: path "4.png": it does not exist' in text
    assert "warning: unknown key samples[].author ignored" in text
    assert "warning: samples without any job: 4" in text
    assert "the preview engine cannot run this here: stage 1 needs SEVA" in text


def test_a_plan_of_ten_thousand_jobs_is_short(tmp_path):
    skipped = tuple(NotRun(index=index, variant="stylized", reason="gone") for index in range(500))
    prepared = prepared_batch([fresh(index) for index in range(10_000)], tmp_path, skipped=skipped)
    text = text_of(dry_run_report(prepared, missing=[]))
    assert sum(line.startswith("photorealistic/") for line in text.splitlines()) == ROWS_SHOWN
    assert "... and 9,950 more jobs" in text
    assert "10,000 jobs: 10,000 to run, 0 finished before; stages: 30,000 run, 0 reuse, 0 refuse" in text
    assert text.count("skipped: ") == LINES_SHOWN
    assert "... and 480 more" in text


def test_the_json_of_a_plan_has_every_job_and_the_totals_last(tmp_path):
    skipped = (NotRun(index=4, variant="stylized", reason="gone"),)
    prepared = prepared_batch([fresh(0), refused(2)], tmp_path, skipped=skipped, warnings=("odd",))
    events = list(dry_run_events(prepared, missing=["stage 1 needs SEVA"]))
    assert [name for name, _ in events] == ["planned_job", "planned_job", "skipped_variant", "log", "dry_run"]
    assert events[1][1]["stages"][1] == {
        "stage": "trajectory",
        "action": "refuse",
        "reason": "stage 2 has a result made with other settings (cfg: 3 -> 4). What to do: use --force",
    }
    assert events[-1][1] == {
        "jobs": 2,
        "jobs_to_run": 1,
        "jobs_finished_before": 0,
        "jobs_that_will_fail": 1,
        "stages_to_run": 3,
        "stages_to_reuse": 1,
        "stages_to_refuse": 1,
        "skipped_variants": 1,
        "engine_label": "synthesised preview",
        "missing": ["stage 1 needs SEVA"],
    }
