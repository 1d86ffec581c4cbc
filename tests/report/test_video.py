"""Videos, read back with ffmpeg."""

from __future__ import annotations

import stat
import sys

import numpy as np
import pytest

from worldexplorer.errors import Cancelled, DefectError, InfrastructureError, UserError
from worldexplorer.report.video import join_videos, write_video

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

HEIGHT, WIDTH = 48, 64


def frames(count=12):
    """A coloured gradient with a bar that moves, so that a lost, doubled or swapped frame shows."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(count):
        picture = np.stack((3 * x, 4 * y, np.full_like(x, 90)), axis=2).astype(np.uint8)
        picture[:, 4 * number : 4 * number + 8] = (230, 230, 40)
        yield picture


def read(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    header = next(reader)
    width, height = header["size"]
    return header, [np.frombuffer(raw, np.uint8).reshape(height, width, 3) for raw in reader]


def test_frames_come_back_in_order_and_close(tmp_path):
    write_video(tmp_path / "video.mp4", frames(), fps=24)
    header, decoded = read(tmp_path / "video.mp4")
    assert header["codec"] == "h264"
    assert header["pix_fmt"].startswith("yuv420p(tv, bt709")
    assert header["size"] == (WIDTH, HEIGHT)
    assert header["fps"] == pytest.approx(24.0)
    expected = list(frames())
    assert len(decoded) == len(expected)
    distance = np.array([[np.abs(a.astype(float) - b).mean() for b in expected] for a in decoded])
    assert (distance.argmin(axis=1) == np.arange(len(expected))).all()
    assert distance.diagonal().max() < 8.0


@pytest.mark.parametrize("fps", [1, 30])
def test_one_frame_is_a_video_and_fps_is_kept(tmp_path, fps):
    write_video(tmp_path / "video.mp4", frames(1), fps=fps)
    header, decoded = read(tmp_path / "video.mp4")
    assert (header["fps"], len(decoded)) == (pytest.approx(fps), 1)


def test_the_same_frames_give_the_same_bytes_and_no_word_about_the_encoder(tmp_path):
    for name in ("a.mp4", "other name.mp4"):
        write_video(tmp_path / name, frames(), fps=24)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content == (tmp_path / "other name.mp4").read_bytes()
    assert b"x264" not in content
    assert b"Lav" not in content
    assert content.index(b"moov") < content.index(b"mdat")
    # Creation and modification times of the movie, track and media headers (version 0) are zero.
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        start = content.index(kind) + 4
        assert content[start] == 0
        assert content[start + 4 : start + 12] == bytes(8)


def test_views_of_larger_arrays_are_written_as_they_look(tmp_path):
    write_video(tmp_path / "plain.mp4", list(frames()), fps=24)
    padded = [np.pad(f, ((3, 1), (2, 2), (0, 0)))[3:-1, 2:-2] for f in frames()]
    write_video(tmp_path / "view.mp4", padded, fps=24)
    assert (tmp_path / "plain.mp4").read_bytes() == (tmp_path / "view.mp4").read_bytes()


@pytest.mark.parametrize(
    ("pictures", "fps", "message"),
    [
        ([], 24, "without frames"),
        ([np.zeros((6, 6, 3), np.uint8)], 0, "0 frames a second"),
        ([np.zeros((6, 7, 3), np.uint8)], 24, "7 x 6 have an odd side"),
        ([np.zeros((6, 6), np.uint8)], 24, r"frame 0 is uint8 \[6, 6\]"),
        ([np.zeros((6, 6, 3), np.float32)], 24, "frame 0 is float32"),
        ([np.zeros((6, 6, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)], 24, r"frame 1 is uint8 \[8, 6, 3\]"),
    ],
)
def test_wrong_frames_are_named_and_nothing_is_left(tmp_path, pictures, fps, message):
    with pytest.raises(DefectError, match=message):
        write_video(tmp_path / "video.mp4", pictures, fps=fps)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_video_keeps_the_old_file(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")

    def stopped():
        yield from frames(3)
        raise Cancelled

    with pytest.raises(Cancelled):
        write_video(path, stopped(), fps=24)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_program_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"absent.*install ffmpeg, or set IMAGEIO_FFMPEG_EXE"):
        write_video(tmp_path / "video.mp4", frames(), fps=24)


def test_a_machine_without_any_ffmpeg_says_so(tmp_path, monkeypatch):
    def nothing():
        raise RuntimeError

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    with pytest.raises(UserError, match=r"no ffmpeg.*install ffmpeg"):
        write_video(tmp_path / "video.mp4", frames(), fps=24)


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"pip install imageio-ffmpeg"):
        write_video(tmp_path / "video.mp4", frames(), fps=24)


@pytest.mark.parametrize("program", ["echo 'first'>&2; echo 'No space left'>&2; exit 1", "exec 0<&-; exit 0"])
def test_a_failing_ffmpeg_is_an_error_with_its_last_words(tmp_path, monkeypatch, program):
    script = tmp_path / "ffmpeg"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    many = (np.zeros((256, 256, 3), np.uint8) for _ in range(40))
    expected = "ffmpeg said: No space left" if "space" in program else "ffmpeg said nothing"
    with pytest.raises(InfrastructureError, match=expected):
        write_video(tmp_path / "video.mp4", many, fps=24)
    assert list(tmp_path.iterdir()) == [script]


def test_videos_are_joined_without_a_loss(tmp_path):
    folder = tmp_path / "a 'folder' of theirs"
    folder.mkdir()
    parts = [folder / "one.mp4", folder / "other.mp4"]
    write_video(parts[0], frames(5), fps=24)
    write_video(parts[1], frames(12), fps=24)
    join_videos(folder / "all.mp4", [*parts, parts[0]])
    header, joined = read(folder / "all.mp4")
    assert header["fps"] == pytest.approx(24.0, abs=0.02)
    expected = [picture for part in [*parts, parts[0]] for picture in read(part)[1]]
    assert len(joined) == len(expected) == 22
    assert all((one == other).all() for one, other in zip(joined, expected, strict=True))
    before = (folder / "all.mp4").read_bytes()
    join_videos(folder / "all.mp4", [*parts, parts[0]])
    assert (folder / "all.mp4").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["all.mp4", "one.mp4", "other.mp4"]


def test_what_cannot_be_joined_is_told(tmp_path):
    with pytest.raises(DefectError, match="no parts"):
        join_videos(tmp_path / "all.mp4", [])
    (tmp_path / "no video.mp4").write_bytes(b"text")
    with pytest.raises(InfrastructureError, match="could not join"):
        join_videos(tmp_path / "all.mp4", [tmp_path / "no video.mp4"])
    assert not (tmp_path / "all.mp4").exists()
