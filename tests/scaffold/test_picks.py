"""picks.json: what a person may write, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldexplorer.errors import UserError
from worldexplorer.pictures import read_picture
from worldexplorer.scaffold.corners import CARDINALS, CORNERS, corner_view
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.picks import offer_digest, question, read_picks
from worldexplorer.scaffold.variants import kept_name, variants_of

VARIANTS = variants_of((7.0, 7.5), 2)
NAMES = [variant.name for variant in VARIANTS]
WHERE = "out/photorealistic/index_0000/scaffold/picks/picks.json"


def read(picks: Any, digest: str | None = None, **more: Any) -> dict[int, str]:
    return read_picks(json.dumps({"picks": picks, **more}).encode(), where=WHERE, names=NAMES, digest=digest)


def refusal(data: bytes, digest: str | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        read_picks(data, where=WHERE, names=NAMES, digest=digest)
    assert caught.value.where == WHERE
    assert caught.value.remedy
    return caught.value


def test_names_as_a_person_may_write_them() -> None:
    assert read({"001": "g7_s0", "003": "g7.5_s1.png", "005": " 005/g7_s1.png ", "007": None}) == {
        1: "g7_s0",
        3: "g7.5_s1",
        5: "g7_s1",
    }


def test_what_is_left_out_is_not_picked() -> None:
    assert read({}) == {}
    assert read({"007": "g7_s0"}) == {7: "g7_s0"}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no JSON"),
        (b'{"picks": {"001": g7_s0}}', "line 1, column 19"),
        (b"\xff\xfe\x00", "not text"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "picks is not an object"),
        (b'{"picks": ["g7_s0"]}', "picks is not an object"),
        (b'{"picks": {}, "pikcs": {}}', "'pikcs' is no key"),
        (b'{"picks": {"002": "g7_s0"}}', "'002' is no corner view (001, 003, 005, 007 are)"),
        (b'{"picks": {"001": 7}}', "001 is 7, not a name in quotation marks"),
        (b'{"picks": {"001": "g7_s9"}}', "001 is 'g7_s9', which is no variant; perhaps g7_s"),
        (b'{"picks": {"001": "the best"}}', "no variant (variants are g7_s0, g7_s1, g7.5_s0 and so on)"),
        (b'{"picks": {"001": ""}}', "no variant"),
        (b"[" * 50_000, "no JSON"),
        (b" " * 100_000, "100,000 bytes"),
    ],
)
def test_what_cannot_be_used_is_named(data: bytes, problem: str) -> None:
    assert problem in refusal(data).what


def test_everything_wrong_is_told_at_once() -> None:
    error = refusal(json.dumps({"picks": {"001": "x", "003": "g7_s0", "9": "g7_s0", "007": 1}}).encode())
    assert all(text in error.what for text in ("001 is 'x'", "'9' is no corner view", "007 is 1"))


def test_picks_of_other_variants_are_not_taken() -> None:
    picks = {"001": "g7_s0"}
    assert read(picks, digest="abc", variants="abc") == {1: "g7_s0"}
    assert read(picks, digest=None, variants="abc") == {1: "g7_s0"}
    assert read(picks, digest="abc") == {1: "g7_s0"}
    error = refusal(json.dumps({"picks": picks, "variants": "abd"}).encode(), digest="abc")
    assert "other variants (abd)" in error.what


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = read_picks(data, where=WHERE, names=NAMES, digest=None)
    except UserError:
        return
    assert set(found) <= set(CORNERS)


class TestQuestion:
    @pytest.fixture
    def kept(self, tmp_path: Path) -> KeptPictures:
        kept = KeptPictures(tmp_path / "pictures", tmp_path / "marks")
        for number, name in enumerate(kept_name(corner, variant) for corner in CORNERS for variant in VARIANTS):
            kept.add(name, np.full((16, 16, 3), 10 + 5 * number, np.uint8), made_from="corner")
        return kept

    def ask(self, kept: KeptPictures, picked: dict[int, str] | None = None) -> Any:
        cardinals = {view: np.full((16, 16, 3), 30 * view + 20, np.uint8) for view in CARDINALS}
        corners = [corner_view(corner, cardinals) for corner in CORNERS]
        return question(kept, corners, VARIANTS, cardinals, picked or {}, title="job", label="tiny"), corners

    def test_the_form_is_a_file_that_picks_nothing(self, kept: KeptPictures) -> None:
        asked, corners = self.ask(kept)
        form = json.loads(asked.form)
        assert form["picks"] == {"001": None, "003": None, "005": None, "007": None}
        assert "same command" in form["how"]
        digest = offer_digest(corners, NAMES)
        assert read_picks(asked.form, where=WHERE, names=NAMES, digest=digest) == {}
        assert (asked.place, asked.answer) == ("scaffold/picks", "picks.json")

    @pytest.mark.slow
    def test_a_sheet_a_corner_shows_every_variant(self, kept: KeptPictures) -> None:
        asked, _ = self.ask(kept)
        for place, corner in enumerate(CORNERS):
            sheet = read_picture(asked.shown / f"{corner:03d}_sheet.png")
            colours = {tuple(colour) for colour in sheet.reshape(-1, 3)}
            for number in range(len(VARIANTS)):
                shade = 10 + 5 * (place * len(VARIANTS) + number)
                assert (shade, shade, shade) in colours

    def test_what_is_waited_for(self, kept: KeptPictures) -> None:
        assert "4 variants of each of 4 corner views wait" in self.ask(kept)[0].what
        assert "1 of 4 corner views have no pick" in self.ask(kept, {1: "g7_s0", 3: "g7_s0", 5: "g7_s0"})[0].what

    def test_sheets_are_drawn_once(self, kept: KeptPictures) -> None:
        asked, _ = self.ask(kept)
        before = (asked.shown / "001_sheet.png").stat().st_mtime_ns
        self.ask(kept)
        assert (asked.shown / "001_sheet.png").stat().st_mtime_ns == before
