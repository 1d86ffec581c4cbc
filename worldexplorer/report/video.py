"""Frames to an MP4 file that every browser plays: H.264, 4:2:0 chroma, BT.709 colours, index at the front.

The same frames give the same bytes: one encoder thread, no time stamps, no name or settings of the encoder. ffmpeg
comes with the package imageio-ffmpeg; the environment variable ``IMAGEIO_FFMPEG_EXE`` names another one.

Example:
    >>> write_video(Path("turntable.mp4"), frames, fps=24)      # frames: uint8 [height, width, 3] each
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, BinaryIO

import numpy as np

from worldexplorer.errors import DefectError, InfrastructureError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CONSTANT_RATE_FACTOR = 18
"""x264's quality: smaller is better and larger; 18 is near to what an eye can tell from the frames."""


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Encode frames; `path` appears only when the whole video is written.

    Args:
        path: the MP4 file; its folder exists. A file there is replaced.
        frames: uint8 sRGB pictures [height, width, 3], all of one size, both sides even; taken one at a time.
        fps: frames a second, at least 1.

    Raises:
        DefectError: no frame, a frame of another size or type, an odd side, or fps below 1.
        UserError: there is no ffmpeg to run.
        InfrastructureError: ffmpeg failed; its last words are in the message.
    """
    if fps < 1:
        raise DefectError(f"a video has {fps} frames a second", where=str(path))
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise DefectError("a video without frames", where=str(path))
    _check_first(first, path)
    part = path.with_name(path.name + ".part")
    # ffmpeg's words go to a file: a pipe nobody reads while frames are written would block both sides when full.
    with tempfile.TemporaryFile() as words:
        process = _start(_command(part, first.shape[1], first.shape[0], fps), words)
        try:
            taken = _feed(process, first, iterator, path)
            if process.wait() != 0 or not taken:
                raise InfrastructureError("ffmpeg could not write the video", where=str(path), remedy=_last(words))
            part.replace(path)
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                _input(process).close()
            part.unlink(missing_ok=True)


def join_videos(path: Path, parts: Sequence[Path]) -> None:
    """Put videos one after the other without encoding them again; `path` appears only when the whole is written.

    Args:
        path: the MP4 file; its folder exists. A file there is replaced.
        parts: one or more files of :func:`write_video`, of one size and rate.

    Raises:
        DefectError: no part.
        UserError: there is no ffmpeg to run.
        InfrastructureError: ffmpeg failed; its last words are in the message.
    """
    if not parts:
        raise DefectError("a video of no parts", where=str(path))
    whole = path.with_name(path.name + ".part")
    with tempfile.TemporaryFile() as words, tempfile.NamedTemporaryFile("w", suffix=".txt") as order:
        # Within single quotes nothing is special but the quote itself.
        quoted = [str(part.resolve()).replace("'", "'\\''") for part in parts]
        order.writelines(f"file '{name}'\n" for name in quoted)
        order.flush()
        try:
            process = _start(_joining_command(whole, order.name), words)
            _input(process).close()
            if process.wait() != 0:
                raise InfrastructureError("ffmpeg could not join the videos", where=str(path), remedy=_last(words))
            whole.replace(path)
        finally:
            whole.unlink(missing_ok=True)


def ffmpeg() -> str:
    """The ffmpeg program.

    Raises:
        UserError: the package imageio-ffmpeg, or the program it should bring, is missing.
    """
    try:
        import imageio_ffmpeg  # only installed with an engine's extra
    except ImportError as error:
        raise UserError("videos need the package imageio-ffmpeg", remedy="pip install imageio-ffmpeg") from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise UserError("there is no ffmpeg for videos", remedy=_INSTALL) from error


_BT709 = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
_INSTALL = "install ffmpeg, or set IMAGEIO_FFMPEG_EXE to the program"


def _command(path: Path, width: int, height: int, fps: int) -> list[str]:
    """Raw frames from standard input to an MP4 file that holds nothing about when or by what it was made."""
    return [
        *(ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(fps)),
        *("-i", "pipe:0", "-an", "-map_metadata", "-1"),
        *("-vf", f"scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+bitexact,format=yuv420p,{_BT709}"),
        *("-c:v", "libx264", "-preset", "medium", "-crf", str(CONSTANT_RATE_FACTOR), "-threads", "1"),
        *("-filter_threads", "1"),
        # x264 writes its version and settings into a supplemental message (unit type 6) that no player needs.
        *("-bsf:v", "filter_units=remove_types=6", "-flags:v", "+bitexact", "-fflags", "+bitexact"),
        *("-metadata:s:v:0", "encoder=", "-movflags", "+faststart", "-f", "mp4", str(path)),
    ]


def _joining_command(path: Path, order: str) -> list[str]:
    return [
        *(ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-f", "concat", "-safe", "0", "-i", order),
        *("-map", "0:v:0", "-c", "copy", "-map_metadata", "-1", "-fflags", "+bitexact", "-movflags", "+faststart"),
        *("-f", "mp4", str(path)),
    ]


def _start(command: list[str], words: BinaryIO) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words)
    except (FileNotFoundError, PermissionError) as error:
        raise UserError("ffmpeg does not start", where=command[0], remedy=_INSTALL) from error


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _feed(
    process: subprocess.Popen[bytes], first: NDArray[np.uint8], rest: Iterable[NDArray[np.uint8]], path: Path
) -> bool:
    """Write every frame to ffmpeg; False when it ended before it had taken them all."""
    pipe = _input(process)
    for number, frame in enumerate(itertools.chain((first,), rest)):
        if frame.dtype != np.uint8 or frame.shape != first.shape:
            found = f"{frame.dtype} {list(frame.shape)}"
            raise DefectError(f"frame {number} is {found}, frame 0 is {list(first.shape)}", where=str(path))
        try:
            pipe.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError:
            return False
    try:
        pipe.close()
    except BrokenPipeError:
        return False
    return True


def _check_first(frame: NDArray[np.uint8], path: Path) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        found = f"{frame.dtype} {list(frame.shape)}"
        raise DefectError(f"frame 0 is {found}, not uint8 [height, width, 3]", where=str(path))
    if frame.shape[0] % 2 or frame.shape[1] % 2:
        size = f"{frame.shape[1]} x {frame.shape[0]}"
        raise DefectError(f"frames of {size} have an odd side, which 4:2:0 chroma cannot hold", where=str(path))


def _last(words: BinaryIO) -> str:
    """The last line ffmpeg wrote."""
    words.seek(0)
    lines = words.read().decode("utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"look at what ffmpeg said: {said[-1]}" if said else "ffmpeg said nothing; run it by hand"
