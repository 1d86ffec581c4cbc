"""What the pipeline's pages show, whatever a data set or an error holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
)
from markdown_it import MarkdownIt
from pod.pods import JOB, Cluster, Done

from worldexplorer.errors import UserError
from worldexplorer.pod.pages import failure_markdown, failure_page

HOSTILE = "a|b <img src=x onerror=alert(1)> [link](javascript:alert(1)) `code` **bold** ~~gone~~ $x$ &amp;\n# heading"
SEEN = "a|b <img src=x onerror=alert(1)> [link](javascript:alert(1)) `code` **bold** ~~gone~~ $x$ &amp; # heading"


def rendered(text: str) -> list[Any]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(text)


def kinds(text: str) -> set[str]:
    tokens = rendered(text)
    return {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}


def cells(text: str) -> list[list[str]]:
    """The rows of the first table, as a reader sees them."""
    rows: list[list[str]] = []
    for token in rendered(text):
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


class Hostile(SmallEngine):
    label = "synthesised preview"

    def train(self, *arguments: Any) -> Any:
        raise UserError(HOSTILE, where="<b>0.png</b>", remedy="take | another")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The summary of a batch in which one job is fine and one failed with a hostile message."""
    folder = tmp_path_factory.mktemp("failed")
    line = HOSTILE.splitlines()[0]
    samples = [photo_sample(0, category=line, theme=line), photo_sample(1)]
    cluster = Cluster(Workbench(folder, samples), folder, load=lambda batch: Hostile())
    for planned in cluster.plan(continue_on_error=True).parameters["jobs"]:
        cluster.job(planned, (1, 2) if planned["job_id"] == JOB else (1, 2, 3))
    return cluster.close()


class TestSummary:
    def test_table_is_whole_and_holds_the_text_as_it_is(self, failed: Done) -> None:
        headings, first, second = cells(failed.text("table"))
        assert headings == ["job", "status", "stages", "world", "what went wrong"]
        assert len(first) == len(second) == 5
        assert second[0] == "photorealistic/index_0001"
        assert second[1] == "failed"
        assert second[4] == f"splat: {SEEN} (<b>0.png</b>). What to do: take | another"

    def test_markdown_holds_nothing_but_a_table(self, failed: Done) -> None:
        assert not kinds(failed.text("table")) & {
            "html_block",
            "html_inline",
            "link_open",
            "image",
            "s_open",
            "em_open",
        }

    def test_page_shows_text_as_text(self, failed: Done) -> None:
        page = failed.text("report")
        assert "<img src=x" not in page and "<b>" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "<script" not in page.lower() and "http" not in page.replace("http-equiv", "")

    def test_label_says_what_made_the_pictures(self, failed: Done) -> None:
        assert '<span class="label">synthesised preview</span>' in failed.text("report")
        assert "synthesised preview" in failed.text("table")

    def test_what_to_run_again_is_said(self, failed: Done) -> None:
        """Both: what was killed without a word counts as failed."""
        assert "To run the failed ones again: indices `0-1`" in failed.text("table")
        assert "To run the failed ones again: indices 0-1" in failed.text("report")


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One stage's pod."""
    folder = tmp_path_factory.mktemp("stage")
    cluster = Cluster(Workbench(folder), folder, load=lambda batch: Hostile())
    (planned,) = cluster.plan((1,)).parameters["jobs"]
    return cluster.job(planned, (1,))


class TestStage:
    def test_page_shows_the_sheet_and_the_figures(self, scaffold: Done) -> None:
        page = scaffold.text("preview")
        assert f"<title>{JOB}: scaffold</title>" in page
        assert page.count('src="data:image/jpeg;base64,') == 1
        assert "<td>seconds</td>" in page and "<td>fingerprint</td>" in page and "<td>peak memory, MiB</td>" in page
        assert '<span class="label">synthesised preview</span>' in page
        assert "Content-Security-Policy" in page and "<script" not in page

    def test_files_are_named(self, scaffold: Done) -> None:
        assert f"Files: {scaffold.metadata('scaffold')['data_uri']}" in scaffold.text("preview")

    def test_the_worlds_files_and_films_are_listed(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path)
        cluster = Cluster(bench, tmp_path)
        (planned,) = cluster.plan().parameters["jobs"]
        done = cluster.job(planned, (1, 2, 3))
        page = done.text("preview")
        for name in ("splat.ply", "splat_rotated.ply", "turntable.mp4"):
            size = bench.job_path(f"splat/{name}").stat().st_size
            assert f'<td>splat/{name}</td><td class="number">{size:,}</td>' in page
        assert "<td>splat/renders" not in page


class TestPlan:
    def test_names_of_files_stay_text(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [{"index": 0, "photorealistic": {"path": "a|<b>[x](y) `z`.png"}}])
        next(bench.data.glob("*.png")).write_bytes(b"no picture")
        text = Cluster(bench, tmp_path).plan((1,), continue_on_error=True).text("report")
        (_, (job, what)) = cells(text)
        assert job == JOB
        assert "a|<b>[x](y) `z`.png" in what
        assert not kinds(text) & {"html_inline", "link_open", "code_inline"}

    def test_report_tells_of_every_job_and_warning(self, tmp_path: Path) -> None:
        samples = [
            photo_sample(0),
            photo_sample(1, colour="red|blue"),
            {"index": 2, "photorealistic": {"path": "2.png"}, "stylized": {"path": "2s.png"}},
        ]
        bench = Workbench(tmp_path, samples)
        (bench.data / "1.png").write_bytes(b"no picture")
        (bench.data / "2s.png").unlink()
        text = Cluster(bench, tmp_path).plan((1,), continue_on_error=True).text("report")
        rows = {row[0]: row[1] for row in cells(text)}
        assert rows[JOB] == "scaffold: run (no result yet)"
        assert rows["photorealistic/index_0001"].startswith("cannot run: ")
        assert rows["photorealistic/index_0002"] == "scaffold: run (no result yet)"
        assert "3 jobs, 2 of them to run (tiny test engine)" in text
        assert "stylized/index\\_0002" in text
        assert "## Warnings" in text and "unknown key" in text


class TestNoPlan:
    def test_message_is_escaped(self) -> None:
        text = failure_markdown(HOSTILE)
        assert not kinds(text) & {"html_block", "html_inline", "link_open", "code_inline", "strong_open"}
        assert "<img" not in failure_page(HOSTILE)
        assert "&lt;img src=x onerror=alert(1)&gt;" in failure_page(HOSTILE)
