from __future__ import annotations

import logging

import pytest

from worldexplorer.log import LogTail, redact

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrSt"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"token {TOKEN}.", "token [redacted]."),
        (f"?token={TOKEN}&x=1", "?token=[redacted]&x=1"),
        ("Authorization: Bearer abc.def-123_456", "Authorization: Bearer [redacted]"),
        ("authorization: bearer ABCDEFGH==", "authorization: bearer [redacted]"),
        ("https://user:pa55word@host/path", "https://[redacted]@host/path"),
        ("https://host:8080/path@2", "https://host:8080/path@2"),
        ("the hf_hub library", "the hf_hub library"),
        ("the bearer of bad news", "the bearer of bad news"),
    ],
)
def test_tokens_are_blacked_out_and_words_are_not(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_what_the_environment_keeps_secret_is_blacked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("DATABASE_PASSWORD", "short")
    monkeypatch.setenv("MY_FOLDER", "/data/pictures")
    assert redact("0123456789abcdef short /data/pictures") == "[redacted] short /data/pictures"


def test_the_tail_keeps_the_last_lines_of_this_package_only() -> None:
    own, other = logging.getLogger("worldexplorer.somewhere"), logging.getLogger("elsewhere")
    own.warning("before")
    with LogTail() as tail:
        for number in range(100):
            own.warning("line %d of %s", number, TOKEN)
        other.warning("not ours")
        own.debug("too quiet")
    own.warning("after")
    assert tail.lines() == [
        f"WARNING worldexplorer.somewhere: line {number} of [redacted]" for number in range(60, 100)
    ]


def test_the_traceback_goes_with_its_causes() -> None:
    try:
        try:
            raise KeyError(TOKEN)
        except KeyError as cause:
            raise RuntimeError(f"outer {TOKEN}") from cause
    except RuntimeError as error:
        lines = LogTail().lines(error)
    text = "\n".join(lines)
    assert "KeyError: '[redacted]'" in text
    assert lines[-1] == "RuntimeError: outer [redacted]"
    assert TOKEN not in text
