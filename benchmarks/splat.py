"""How fast the gsplat trainer is on this GPU, and how good its worlds are, on the scene of benchmarks/splat_scene.py.

Prints, at several numbers of images seen, seconds of training (checkpoints included, measuring not), milliseconds a
step, PSNR and SSIM on the held-out views, Gaussians and peak memory; and where a step's time goes. Goes on
from the checkpoint in `--checkpoint`, so that a run longer than one sitting can be done in several.

Example:
    python benchmarks/splat_scene.py /data/scene
    python benchmarks/splat.py /data/scene --profile published fast --json splat.json
    python benchmarks/splat.py /data/scene --profile fast --gpus 2
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from splat_scene import load_scene

from worldexplorer.engine import SplatScene, Views
from worldexplorer.models.gpus import equal_gpus
from worldexplorer.models.splatting.operations import Operations, PlainOperations, operations_for
from worldexplorer.models.splatting.plain_rasterizer import rasterization as plain_rasterization
from worldexplorer.models.splatting.rasterizer import Rasterizer, gsplat_rasterizer
from worldexplorer.models.splatting.recipe import Recipe, named_recipe
from worldexplorer.models.splatting.team import useful_members
from worldexplorer.models.splatting.team_process import Place, Task
from worldexplorer.models.splatting.together import PATIENCE_SECONDS, pictures_kept, train_together
from worldexplorer.models.splatting.training import Training
from worldexplorer.progress import silent

MILESTONES = (1_000, 2_000, 4_000, 7_000, 15_000, 30_000)
_TIMED_IMAGES = 200
_TIMED_WORDS = 6
"""Words of progress, ten steps each, that a time an image is taken from."""
_PROFILED_STEPS, _PROFILED_FROM = 20, 7_000
_GIB = 2**30


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--profile", nargs="+", default=["published"], choices=("published", "fast"))
    parser.add_argument("--images", type=int, help="of the whole recipe; its schedules shrink with it")
    parser.add_argument("--until", type=int, help="stop after so many images")
    parser.add_argument("--checkpoint", type=Path, help="keep checkpoints below this folder and go on from them")
    parser.add_argument("--strategy", choices=("mcmc", "default"))
    parser.add_argument("--rasterizer", default="own", choices=("own", "gsplat", "plain"))
    parser.add_argument("--plain", action="store_true", help="loss, optimiser and noise in plain torch")
    parser.add_argument("--frames", type=int, help="fill up with copies to so many training frames")
    parser.add_argument("--points", type=int, help="start from so many")
    parser.add_argument(
        "--gpus", type=int, default=1, help="train on so many together, where a step has pictures enough"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    scene, heldout = load_scene(arguments.scene)
    scene = _as_asked(scene, arguments.frames, arguments.points)
    figures: dict[str, Any] = {"torch": torch.__version__, "frames": len(scene.train.images)}
    if arguments.device == "cuda":
        figures["gpu"] = torch.cuda.get_device_name()
    console = Console(width=150)
    for profile in arguments.profile:
        with contextlib.ExitStack() as stack:
            base = arguments.checkpoint or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            several = useful_members(named_recipe(profile, None).batch, arguments.gpus) > 1
            how = measure_together if several else measure
            figures[profile] = how(profile, scene, heldout, base / profile, arguments)
        console.print(table(profile, figures[profile]))
        console.print({name: value for name, value in figures[profile].items() if name not in ("rows", "recipe")})
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1))


def measure(
    profile: str, scene: SplatScene, heldout: Views, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One training, looked at on its way."""
    device, recipe = torch.device(arguments.device), recipe_of(profile, arguments)
    start = time.perf_counter()
    rasterize = rasterizer_of(arguments.rasterizer)
    operations = PlainOperations() if arguments.plain else operations_for(device)
    found: dict[str, Any] = {"recipe": recipe.described(), "kernels ready s": round(time.perf_counter() - start, 2)}
    clock = Clock(device)
    training = Training(
        scene, recipe, cap=recipe.cap, seed=0, device=device, rasterize=rasterize, operations=operations
    )
    training.resume(folder)
    found["start s"] = clock.lap()
    found["from"], found["pictures"] = training.image, training.pictures_place
    end = min(arguments.until or recipe.images, recipe.images)
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    for milestone in sorted({min(one, end) for one in MILESTONES} | {end}):
        if milestone <= training.image:
            continue
        steps = max(min(_TIMED_IMAGES, milestone - training.image) // recipe.batch, 1)
        training.run(folder, silent, until=milestone - steps * recipe.batch)
        seconds += clock.lap()
        for _ in range(steps):
            training.step()
        timed = clock.lap()
        seconds += timed
        training.run(folder, silent, until=milestone)
        seconds += clock.lap()
        fit = training.measure(heldout)
        rows.append(
            {
                "images": training.image,
                "seconds": round(seconds, 2),
                "ms a step": round(1000 * timed / steps, 2),
                "ms an image": round(1000 * timed / steps / recipe.batch, 2),
                "PSNR": round(fit.psnr, 3),
                "SSIM": round(fit.ssim, 5),
                "Gaussians": training.state.count,
                "peak GiB": round(peak(device), 2),
            }
        )
        print(profile, rows[-1], flush=True)
        left = recipe.images - training.image
        if device.type == "cuda" and milestone >= _PROFILED_FROM and "time of a step" not in found and left > 1000:
            found["time of a step"] = profiled(training.step)
        clock.lap()
    found["rows"] = rows
    found["PSNR of training views"] = round(training.measure(_first(scene.train, 24)).psnr, 3)
    return found


def measure_together(
    profile: str, scene: SplatScene, heldout: Views, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One training on several GPUs, from its progress, and its result; seconds from the start of the processes."""
    recipe = recipe_of(profile, arguments)
    members = useful_members(recipe.batch, arguments.gpus)
    if arguments.device == "cuda":
        places = [Place(device, f"{device} ({name})") for device, name in equal_gpus(members).items()]
    else:
        places = [Place(arguments.device, f"{arguments.device} {number}") for number in range(members)]
    operations = plain_operations if arguments.plain else operations_for
    folder.mkdir(parents=True, exist_ok=True)
    passed: list[tuple[int, float]] = []
    start = time.perf_counter()

    def note(done: int, total: int, what: str) -> None:
        if done and (not passed or done > passed[-1][0]):
            passed.append((done, time.perf_counter() - start))

    with pictures_kept(scene) as (without, images):
        kept = time.perf_counter() - start
        task = Task(
            places=tuple(places),
            scene=without,
            images=images,
            recipe=recipe,
            cap=recipe.cap,
            seed=0,
            heldout_every=None,
            stop_psnr=None,
            folder=folder,
            rasterizer=partial(rasterizer_of, arguments.rasterizer),
            operations=operations,
            patience=PATIENCE_SECONDS,
        )
        train_together(task, note)
    whole = time.perf_counter() - start
    rows = []
    for milestone in sorted({min(one, recipe.images) for one in MILESTONES} | {recipe.images}):
        reached = [(done, seconds) for done, seconds in passed if done <= milestone]
        if len(reached) < 2:
            continue
        (before, earlier), (done, seconds) = reached[-min(len(reached), _TIMED_WORDS)], reached[-1]
        row = {"images": done, "seconds": round(seconds, 2)}
        rows.append(row | {"ms an image": round(1000 * (seconds - earlier) / (done - before), 2)})
    device = torch.device(arguments.device)
    training = Training(
        scene,
        recipe,
        cap=recipe.cap,
        seed=0,
        device=device,
        rasterize=rasterizer_of(arguments.rasterizer),
        operations=operations(device),
    )
    training.resume(folder)
    fit = training.measure(heldout)
    return {
        "recipe": recipe.described(),
        "gpus": members,
        "pictures written s": round(kept, 2),
        "first steps after s": round(passed[0][1], 2) if passed else None,
        "all s": round(whole, 2),
        "PSNR": round(fit.psnr, 3),
        "SSIM": round(fit.ssim, 5),
        "Gaussians": training.state.count,
        "rows": rows,
    }


def recipe_of(profile: str, arguments: argparse.Namespace) -> Recipe:
    """The recipe that is measured."""
    recipe = named_recipe(profile, arguments.images)
    return replace(recipe, strategy=arguments.strategy) if arguments.strategy else recipe


def plain_operations(_device: torch.device) -> Operations:
    """Loss, optimiser and noise in plain torch; a name that processes know."""
    return PlainOperations()


class Clock:
    """Seconds between two calls, everything the GPU was given included."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, time.perf_counter()

    def lap(self) -> float:
        """Since the last call."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def rasterizer_of(name: str) -> Rasterizer:
    """What draws."""
    if name == "plain":
        return plain_rasterization
    own = gsplat_rasterizer()
    if name == "own":
        return own
    import gsplat

    return gsplat.rasterization  # type: ignore[no-any-return]


def profiled(step: Callable[[], None]) -> dict[str, Any]:
    """Microseconds of GPU time a step by kernel, the largest first, and how many kernels there are."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(_PROFILED_STEPS):
            step()
        torch.cuda.synchronize()
    times: Counter[str] = Counter()
    launches = 0
    for event in profiler.key_averages():
        times[event.key[:70]] += round(event.self_device_time_total / _PROFILED_STEPS)
        launches += event.count if event.self_device_time_total else 0
    return {
        "launches": round(launches / _PROFILED_STEPS, 1),
        "GPU us": sum(times.values()),
        "by kernel": dict(times.most_common(22)),
    }


def peak(device: torch.device) -> float:
    """GiB allocated at most since the last call."""
    if device.type != "cuda":
        return 0.0
    found = torch.cuda.max_memory_allocated() / _GIB
    torch.cuda.reset_peak_memory_stats()
    return float(found)


def table(profile: str, found: dict[str, Any]) -> Table:
    """The rows of one profile."""
    made = Table(title=profile)
    columns = list(found["rows"][0]) if found["rows"] else []
    for column in columns:
        made.add_column(column, justify="right")
    for row in found["rows"]:
        made.add_row(*(str(row[column]) for column in columns))
    return made


def _as_asked(scene: SplatScene, frames: int | None, points: int | None) -> SplatScene:
    if points:
        scene = replace(
            scene, points=scene.points[:points], normals=scene.normals[:points], colours=scene.colours[:points]
        )
    if frames:
        scene = replace(scene, train=_some(scene.train, [number % len(scene.train.images) for number in range(frames)]))
    return scene


def _first(views: Views, count: int) -> Views:
    return _some(views, list(range(min(count, len(views.images)))))


def _some(views: Views, numbers: list[int]) -> Views:
    return Views(views.images[numbers], views.c2w[numbers], views.intrinsics[numbers])


if __name__ == "__main__":
    main()
