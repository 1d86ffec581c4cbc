"""How long a tree of files takes to a bucket and back: one file at a time against the storage's own way.

The bucket is the emulator of the tests, behind a proxy in a process of its own that adds a pause to every request, as
a network does. Fails unless the storage is at least `--least` times as fast in both directions.

Example:
    python benchmarks/transfer.py --files 2856 --milliseconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gcs_emulator import emulator_url, gcs_client
from loopback_proxy import LoopbackProxy

from worldexplorer.storage.gcs import GcsStorage

BUCKET = "transfer"
MOVED_SHARE = 8
"""One in so many files is moved: a move takes two requests, and there is nothing else to see in it."""
FILE_SIZES = (2_000, 60_000)
"""Bytes of a file, from and to; frames of the preview engine are such."""


def main() -> None:
    """Measure both ways and moves, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=2856)
    parser.add_argument("--milliseconds", type=float, default=20.0)
    parser.add_argument("--least", type=float, default=5.0)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = _make_tree(folder / "tree", words.files)
        gcs_client(emulator_url()).create_bucket(BUCKET)
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        proxy = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs, emulator_url(), words.milliseconds / 1000), daemon=True
        )
        proxy.start()
        try:
            ratios = _measure(GcsStorage(gcs_client(ours.recv()), BUCKET), folder, names, words.milliseconds)
        finally:
            proxy.terminate()
            proxy.join()
    if min(ratios[:2]) < words.least:
        raise SystemExit(f"the transfer is less than {words.least:g} times as fast as one file at a time")


def _measure(storage: GcsStorage, folder: Path, names: list[str], milliseconds: float) -> list[float]:
    moved = names[::MOVED_SHARE]
    size = sum((folder / "tree" / name).stat().st_size for name in names)

    def up_one_by_one() -> None:
        for name in names:
            storage.write(f"single/{name}", (folder / "tree" / name).read_bytes())

    def down_one_by_one() -> None:
        for name in names:
            target = folder / "down-single" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(storage.read(f"single/{name}"))

    def move_one_by_one() -> None:
        for name in moved:
            storage.move(f"single/{name}", f"moved-single/{name}")

    def down() -> None:
        storage.local_copies([f"together/{name}" for name in names], folder / "down")

    def move() -> None:
        storage.map(lambda name: storage.move(f"together/{name}", f"moved/{name}"), moved)

    title = f"{len(names):,} files, {size / 2**20:.0f} MiB, {milliseconds:g} ms added to every request"
    table = Table(title=title)
    for column in ("", "one at a time, s", "storage, s", "files/s", "ratio"):
        table.add_column(column, justify="right")
    ratios = []
    for what, count, slow, fast in (
        ("upload", len(names), up_one_by_one, lambda: storage.upload(folder / "tree", "together")),
        ("download", len(names), down_one_by_one, down),
        (f"publish ({len(moved)} moves)", len(moved), move_one_by_one, move),
    ):
        before, after = _seconds(slow), _seconds(fast)
        ratios.append(before / after)
        table.add_row(what, f"{before:.1f}", f"{after:.1f}", f"{count / after:.0f}", f"{before / after:.1f}")
        print(f"{what}: {before:.1f} s, {after:.1f} s", flush=True)
    Console(width=120).print(table)
    for name in names:
        data = (folder / "tree" / name).read_bytes()
        for place in ("down-single", "down/together"):
            if (folder / place / name).read_bytes() != data:
                raise SystemExit(f"{place}/{name} came back changed")
    return ratios


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _make_tree(folder: Path, files: int) -> list[str]:
    """Files of many sizes in many folders, like a scene."""
    names = []
    for number in range(files):
        name = f"{number // 21:03d}/samples-rgb/{number % 21:03d}.png"
        share = (number * 7919 % files) / files
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(int(FILE_SIZES[0] + share * (FILE_SIZES[1] - FILE_SIZES[0]))))
        names.append(name)
    return names


def _serve(ready: Connection, upstream: str, delay: float) -> None:
    async def serve() -> None:
        ready.send(await LoopbackProxy(upstream, delay=delay).serve())
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
