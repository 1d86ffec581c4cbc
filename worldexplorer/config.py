"""Every setting, once: one frozen dataclass a stage and one for the batch.

The docstring under a field is its help text in the command line, in the pipeline's run parameters and in the docs; its
default stands here and nowhere else. `None` means that the sample, the scene type or the engine decides; the help text
says how.

Example:
    >>> help_texts(SplatConfig)["keep_training"]
    'Keep the training checkpoints and logs after stage 3.'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args

import docstring_parser

from worldexplorer.errors import UsageError

Precision = Literal["float16", "bfloat16", "float32"]
"""A type that networks compute in."""
STAGE_NAMES: Mapping[int, str] = {1: "scaffold", 2: "trajectory", 3: "splat"}
PUBLISHED_TRAJECTORIES = ("in", "left", "right", "up")
"""The built-in trajectories, in their default order."""
TRANSLATION_SCALING: Mapping[str | None, float] = {"indoor": 3.0, "outdoor": 10.0, None: 3.0}
"""Translation scaling by scene type, where neither the sample nor the command says one."""
DEFAULT_NUM_IMAGES_FOR_VGGT = 40
FRAME_COUNT_STEP = 8
FRAME_COUNT_RANGE = (8, 360)
VGGT_IMAGE_RANGE = (1, 400)
ANCHOR_RANGE = (3, 45)
"""Anchors of a trajectory; the upper end is the length of the shortest published one."""
HFOV_RANGE = (10.0, 150.0)
PAN_GROWTHS = ("joint", "two-step")
"""How a turn on the spot grows from the photo."""
GEOMETRY_MODELS = ("vggt", "depth-anything-3")
"""The models of points of the full engine; the first is the published one."""
EXPORT_FORMATS = ("ply", "spz", "compressed-ply")
"""What a world can be written as; the first always is."""
SPLAT_TRAINERS = ("gsplat", "nerfstudio")
"""The trainers of the full engine."""
SPLAT_PROFILES = ("published", "fast")
"""How the gsplat trainer follows the recipe."""
SPLAT_STEP_RANGE = (100, 1_000_000)
"""Training steps of one image each."""
MAX_GAUSSIANS_RANGE = (1, 10_000_000)
"""Gaussians that a world can be cut down to; the upper end is what a PLY file may hold."""
SCAFFOLD_GEN = "scaffold_gen"
"""The method that makes views from text."""
CORNER_GUIDANCES = (7.0, 7.5, 8.0, 9.0, 4.0, 5.0, 6.0, 10.0, 11.0, 12.0, 13.0)
"""The published guidance scales of corner views; the first is the one that fast takes."""
CORNER_GUIDANCE_COUNT_LIMIT = 32
CORNER_SEED_RANGE = (1, 64)
STEP_RANGE = (1, 1000)
"""Steps of a picture."""


def require_frame_count(count: int) -> None:
    """Refuse a number of stage 1 frames that eight views cannot share; UsageError names the nearest that they can."""
    low, high = FRAME_COUNT_RANGE
    if low <= count <= high and count % FRAME_COUNT_STEP == 0:
        return
    below = min(max(count // FRAME_COUNT_STEP * FRAME_COUNT_STEP, low), high)
    above = min(max(-(-count // FRAME_COUNT_STEP) * FRAME_COUNT_STEP, low), high)
    raise UsageError(
        f"num_seva_frames is {count}, not a multiple of {FRAME_COUNT_STEP} from {low} to {high}",
        where="--num_seva_frames",
        remedy=f"use {below}" if below == above else f"use {below} or {above}",
    )


def _require_steps(name: str, steps: int | None) -> None:
    low, high = STEP_RANGE
    if steps is not None and not low <= steps <= high:
        raise UsageError(f"{name} is {steps}", where=f"--{name}", remedy=f"give a number from {low} to {high}")


def setting(
    default: Any,
    *,
    group: str,
    choices: tuple[Any, ...] = (),
    several: bool = False,
    kind: type = str,
    synonym: str = "",
    metavar: str = "",
) -> Any:
    """A field with what the command line needs to know about it."""
    facts = {
        "group": group,
        "choices": choices,
        "several": several,
        "kind": kind,
        "synonym": synonym,
        "metavar": metavar,
    }
    return field(default=default, metadata=facts)


_OUTPUT = "Output and filtering"
_STAGE_1 = "Stage 1: scaffold"
_STAGE_2 = "Stage 2: trajectory + point cloud"
_STAGE_3 = "Stage 3: Gaussian splats"
_FULL_ENGINE = "Full engine"
_GENERAL = "General"


@dataclass(frozen=True)
class ScaffoldConfig:
    """Settings of stage 1."""

    scaffold_method: str = setting(
        "single_image", group=_STAGE_1, choices=("single_image", SCAFFOLD_GEN, "single_image_hybrid")
    )
    """How the eight views are made: single_image grows them from one photo; scaffold_gen from text prompts, with the
    photo as view 000 where there is one; single_image_hybrid grows 002, 004 and 006 from the photo and fills in the
    corner views between."""
    scaffold_mode: str = setting("manual", group=_STAGE_1, choices=("fast", "automatic", "manual"))
    """scaffold_gen only: how corner views are picked: fast makes one of each; automatic takes the best of many by CLIP
    score; manual shows a person many and waits for picks.json (exit code 3). A sample's scaffold.mode wins."""
    default_theme: str | None = setting(None, group=_STAGE_1, metavar="TEXT")
    """scaffold_gen only: the theme of samples that name none."""
    text_to_image: str = setting("flux1-dev", group=_STAGE_1, choices=("flux1-dev", "flux2-klein"))
    """scaffold_gen only: the model that makes views from text."""
    text_to_image_steps: int | None = setting(None, group=_STAGE_1, kind=int, metavar="N")
    """scaffold_gen on the full engine only: steps of a view from text, 1 to 1000. Without it what the model is
    published with: 100 for flux1-dev, 4 for flux2-klein. Fewer are faster and change the views."""
    inpaint: str = setting("sd2-inpainting", group=_STAGE_1, choices=("sd2-inpainting", "flux2-klein", "flux1-fill"))
    """scaffold_gen and single_image_hybrid: the model that fills in the corner views."""
    inpaint_steps: int | None = setting(None, group=_STAGE_1, kind=int, metavar="N")
    """scaffold_gen and single_image_hybrid on the full engine only: steps of a corner view, 1 to 1000. Without it what
    the model is published with: 50 for sd2-inpainting and flux1-fill, 4 for flux2-klein."""
    corner_guidances: tuple[float, ...] = setting(CORNER_GUIDANCES, group=_STAGE_1, metavar="A,B,...")
    """scaffold_gen and single_image_hybrid: the guidance scales of corner view variants, positive numbers. automatic
    and manual make a variant for each scale and each seed, 88 a corner by default; fast and single_image_hybrid take
    the first scale alone. flux2-klein takes no scale: with it there is a variant for each seed."""
    corner_seeds: int = setting(8, group=_STAGE_1, kind=int, metavar="N")
    """scaffold_gen only: how many seeds each guidance scale gets in automatic and manual, 1 to 64."""
    traj_prior: str = setting("pan-in-place", group=_STAGE_1, metavar="NAME")
    """single_image only: the camera path of stage 1. pan-in-place turns on the spot, which is what stage 2 expects;
    orbit and the other SEVA priors look elsewhere and are warned about."""
    num_seva_frames: int = setting(80, group=_STAGE_1, kind=int, synonym="num_targets", metavar="N")
    """single_image only: frames generated around the photo, the photo included; a multiple of 8 from 8 to 360. The
    eight scaffold views are frames i*N/8. The full engine makes up to 24 in one sampling, which is the quick way; of
    more, 24 are made together, and the others between those. single_image_hybrid makes only the former."""
    pan_growth: str = setting("joint", group=_STAGE_1, choices=PAN_GROWTHS)
    """pan-in-place only: joint makes the frames all around together; two-step first those up to 90 degrees to either
    side of the photo, and from these the ones behind it."""
    overlap_psnr: float | None = setting(None, group=_STAGE_1, kind=float, metavar="DB")
    """pan-in-place only: what neighbouring views must agree by where they overlap, in dB from 0; a scaffold that does
    not is marked degraded. Without it 20."""
    cfg: tuple[float, ...] = setting((4.0, 2.0), group=_STAGE_1, metavar="A,B")
    """single_image only: guidance scale of the first and of the second pass, two positive numbers."""
    output_all_seva_frames: bool = setting(False, group=_STAGE_1)
    """Copy every frame generated by stage 1 to all_seva_frames/ beside the scaffold."""
    hfov: float | None = setting(None, group=_STAGE_1, kind=float, metavar="DEGREES")
    """The whole photo's true horizontal field of view. Without it the photo's square centre crop is taken as seen
    through the scaffold camera (60.08 degrees)."""

    def __post_init__(self) -> None:
        require_frame_count(self.num_seva_frames)
        _require_steps("text_to_image_steps", self.text_to_image_steps)
        _require_steps("inpaint_steps", self.inpaint_steps)
        if len(self.cfg) != 2 or not all(math.isfinite(scale) and scale > 0 for scale in self.cfg):
            raise UsageError(
                f"cfg is {','.join(f'{scale:g}' for scale in self.cfg)}, not two positive numbers",
                where="--cfg",
                remedy="give two numbers separated by a comma, such as 4.0,2.0",
            )
        self._check_corners()
        if self.hfov is not None and not HFOV_RANGE[0] <= self.hfov <= HFOV_RANGE[1]:
            raise UsageError(
                f"hfov is {self.hfov:g}",
                where="--hfov",
                remedy=f"give degrees from {HFOV_RANGE[0]:g} to {HFOV_RANGE[1]:g}",
            )
        if self.overlap_psnr is not None and not (math.isfinite(self.overlap_psnr) and self.overlap_psnr >= 0):
            raise UsageError(
                f"overlap_psnr is {self.overlap_psnr:g}",
                where="--overlap_psnr",
                remedy="give decibels from 0, such as 20; 0 accepts every scaffold",
            )

    def _check_corners(self) -> None:
        scales = self.corner_guidances
        shown = ",".join(f"{scale:g}" for scale in scales)
        if not 1 <= len(scales) <= CORNER_GUIDANCE_COUNT_LIMIT or not all(
            math.isfinite(scale) and scale > 0 for scale in scales
        ):
            raise UsageError(
                f"corner_guidances is {shown or 'empty'}",
                where="--corner_guidances",
                remedy=f"give 1 to {CORNER_GUIDANCE_COUNT_LIMIT} positive numbers separated by commas, such as 7,7.5,8",
            )
        if len({f"{scale:g}" for scale in scales}) < len(scales):
            raise UsageError(
                f"corner_guidances names a scale twice: {shown}",
                where="--corner_guidances",
                remedy="give each once, to six digits",
            )
        low, high = CORNER_SEED_RANGE
        if not low <= self.corner_seeds <= high:
            raise UsageError(
                f"corner_seeds is {self.corner_seeds}",
                where="--corner_seeds",
                remedy=f"give a number from {low} to {high}",
            )


@dataclass(frozen=True)
class TrajectoryConfig:
    """Settings of stage 2."""

    translation_scaling_factor: float | None = setting(None, group=_STAGE_2, kind=float, metavar="X")
    """How far the trajectories reach, as the novel-view model sees it. A sample's
    expansion.translation_scaling_factor wins; without either: 3.0 indoors, 10.0 outdoors."""
    trajectory_order: tuple[str, ...] | None = setting(None, group=_STAGE_2, several=True, metavar="NAME")
    """The trajectories of every scaffold view, in the order they are made. A sample's expansion.trajectory_order wins;
    without either: in left right up, or all of --root_dir."""
    num_images_for_vggt: int | None = setting(None, group=_STAGE_2, kind=int, metavar="N")
    """Frames that feed the point cloud besides the eight scaffold views, 1 to 400; fewer need less memory. A sample's
    expansion.num_images_for_vggt wins; without either: 40, on the preview engine what its preset says."""
    collision_rule: str = setting("clearance", group=_STAGE_2, choices=("clearance", "legacy"))
    """When a trajectory ends early: clearance, when metric depth says that something is too close; legacy, by the
    published threshold on inverse depth normalised over the trajectory."""
    anchors: int | None = setting(None, group=_STAGE_2, kind=int, metavar="N")
    """Full engine only: frames of each trajectory that are made first, 3 to 45, and between which the others are filled
    in. Without it the published 13. Fewer are faster, find obstacles more coarsely and change the frames."""
    geometry_model: str = setting("vggt", group=_STAGE_2, choices=GEOMETRY_MODELS)
    """Full engine only: the model of the point cloud. VGGT is for research; depth-anything-3 is permissive and is told
    where the cameras stand."""
    root_dir: str | None = setting(None, group=_STAGE_2, metavar="FOLDER")
    """A folder of own trajectories (NAME/transforms.json each) instead of the built-in four."""

    def __post_init__(self) -> None:
        scale = self.translation_scaling_factor
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise UsageError(
                f"translation_scaling_factor is {scale}",
                where="--translation_scaling_factor",
                remedy="give a number above 0, such as 3.0 indoors or 10.0 outdoors",
            )
        low, high = ANCHOR_RANGE
        if self.anchors is not None and not low <= self.anchors <= high:
            raise UsageError(
                f"anchors is {self.anchors}", where="--anchors", remedy=f"give a number from {low} to {high}"
            )
        low, high = VGGT_IMAGE_RANGE
        if self.num_images_for_vggt is not None and not low <= self.num_images_for_vggt <= high:
            raise UsageError(
                f"num_images_for_vggt is {self.num_images_for_vggt}",
                where="--num_images_for_vggt",
                remedy=f"give a number from {low} to {high}",
            )


@dataclass(frozen=True)
class SplatConfig:
    """Settings of stage 3."""

    nerf_folder: str | None = setting(None, group=_STAGE_3, metavar="FOLDER")
    """Where the trainer keeps its run data (checkpoints, logs). Without it inside the job's folder."""
    keep_training: bool = setting(False, group=_STAGE_3)
    """Keep the training checkpoints and logs after stage 3."""
    export_formats: tuple[str, ...] = setting(("ply",), group=_STAGE_3, several=True, choices=EXPORT_FORMATS)
    """What the world is written as. The two PLY files always are; spz adds splat.spz, compressed-ply adds
    splat.compressed.ply, both smaller and rounded; these need the package gsply (worldexplorer[exports])."""
    max_gaussians: int | None = setting(None, group=_STAGE_3, kind=int, metavar="N")
    """After training, keep at most this many Gaussians: those that show most in the training views."""
    splat_trainer: str = setting("gsplat", group=_STAGE_3, choices=SPLAT_TRAINERS)
    """Full engine only: the trainer. gsplat is this program's own loop around the package gsplat, nerfstudio the
    published call of ns-train; both follow one recipe."""
    splat_profile: str = setting("published", group=_STAGE_3, choices=SPLAT_PROFILES)
    """Full engine, gsplat only: published trains on one image a step; fast on four, with as many images in all."""
    splat_steps: int | None = setting(None, group=_STAGE_3, kind=int, metavar="N")
    """Full engine only: training steps of one image each, 100 to 1000000. Without it the published 30,000. Fewer are
    faster and change the world; the schedules shrink in proportion."""
    splat_heldout_every: int | None = setting(None, group=_STAGE_3, kind=int, metavar="N")
    """Full engine, gsplat only: keep every N-th frame out of training, from 2, and measure the world with those."""
    splat_stop_psnr: float | None = setting(None, group=_STAGE_3, kind=float, metavar="DB")
    """Full engine, gsplat only: end training as soon as the frames that --splat_heldout_every keeps out reach this
    many dB. Changes the world."""
    filter_floaters: bool = setting(False, group=_STAGE_3)
    """After training, take out Gaussians that hang in the air: those nearer to a camera than half of where the point
    cloud begins, and those that touch hardly any of their neighbours."""

    def __post_init__(self) -> None:
        if self.nerf_folder is not None and (not self.nerf_folder or "://" in self.nerf_folder):
            raise UsageError(
                f"nerf_folder is {self.nerf_folder!r}, and trainers write to a folder of this machine",
                where="--nerf_folder",
                remedy="name a local folder; with results in a bucket every checkpoint is kept there too",
            )
        low, high = MAX_GAUSSIANS_RANGE
        if self.max_gaussians is not None and not low <= self.max_gaussians <= high:
            raise UsageError(
                f"max_gaussians is {self.max_gaussians}",
                where="--max_gaussians",
                remedy=f"give a number from {low} to {high}",
            )
        self._check_training()

    def _check_training(self) -> None:
        low, high = SPLAT_STEP_RANGE
        if self.splat_steps is not None and not low <= self.splat_steps <= high:
            raise UsageError(
                f"splat_steps is {self.splat_steps}",
                where="--splat_steps",
                remedy=f"give a number from {low} to {high}",
            )
        if self.splat_heldout_every is not None and self.splat_heldout_every < 2:
            raise UsageError(
                f"splat_heldout_every is {self.splat_heldout_every}",
                where="--splat_heldout_every",
                remedy="give a number from 2, such as 8",
            )
        if self.splat_stop_psnr is None:
            return
        if self.splat_heldout_every is None:
            raise UsageError(
                "splat_stop_psnr needs frames to measure with, and none are kept out of training",
                where="--splat_stop_psnr",
                remedy="give --splat_heldout_every too, such as 8",
            )
        if not (math.isfinite(self.splat_stop_psnr) and self.splat_stop_psnr > 0):
            raise UsageError(
                f"splat_stop_psnr is {self.splat_stop_psnr:g}",
                where="--splat_stop_psnr",
                remedy="give decibels above 0, such as 35",
            )


@dataclass(frozen=True)
class FullEngineConfig:
    """How the full engine runs SEVA, in the stages that use it; what changes frames stands in every record."""

    precision: str = setting("float16", group=_FULL_ENGINE, choices=get_args(Precision))
    """The type SEVA computes in. bfloat16 has a wider range and is less exact; float32 is slow, takes twice the memory
    and is for comparisons."""
    no_compile: bool = setting(False, group=_FULL_ENGINE)
    """Do not compile SEVA where it has no kernels of its own, which is with --precision float32 and on GPUs before
    Ampere: a first job starts sooner, all others take longer. Elsewhere this changes nothing."""
    steps: int | None = setting(None, group=_FULL_ENGINE, kind=int, metavar="N")
    """Steps of SEVA's samplings in stages 1 and 2, 1 to 1000. Without it the published 50. Fewer are faster and change
    the frames."""
    multistep: bool = setting(False, group=_FULL_ENGINE)
    """Let each of SEVA's steps also use the one before it (DPM-Solver++ 2M), which is meant for fewer --steps. Changes
    the frames."""
    guidance_interval: tuple[float, ...] = setting((), group=_FULL_ENGINE, metavar="LOW,HIGH")
    """The noise levels between which SEVA's samplings are guided, two numbers from 0 (a sampling goes from 85 down to
    0.2); steps outside of them cost half. Without it all are guided. Changes the frames."""
    shorter_chunks: bool = setting(False, group=_FULL_ENGINE)
    """Sample fewer than 21 frames where fewer are asked for, instead of filling up with copies. Faster, and changes the
    frames."""
    fp8: bool = setting(False, group=_FULL_ENGINE)
    """Compute SEVA's widest products in eight-bit floating point, on GPUs of capability 8.9 and more (L4, RTX 40,
    H100). Changes the frames."""

    def __post_init__(self) -> None:
        _require_steps("steps", self.steps)
        if self.multistep and self.steps == 1:
            raise UsageError(
                "multistep needs a step before each but the first, and there is one step in all",
                where="--multistep",
                remedy="give more --steps, or leave --multistep out",
            )
        if self.fp8 and self.precision == "float32":
            raise UsageError(
                "fp8 rounds what float32 is there to keep",
                where="--fp8",
                remedy="leave out --fp8 or --precision float32",
            )
        interval = self.guidance_interval
        if interval and (
            len(interval) != 2 or not all(map(math.isfinite, interval)) or not 0 <= interval[0] < interval[1]
        ):
            raise UsageError(
                f"guidance_interval is {','.join(f'{level:g}' for level in interval)}",
                where="--guidance_interval",
                remedy="give two numbers from 0, the lower one first, such as 0.3,20",
            )


@dataclass(frozen=True)
class BatchConfig:
    """Settings of a whole run."""

    dataset_dir: str = setting("", group="Required", metavar="FOLDER")
    """The curated data set: a folder, or gs://BUCKET/PREFIX, with metadata.json and the images it names."""
    output_base: str = setting("output/batch", group=_OUTPUT, metavar="FOLDER")
    """Where results go: a folder, or gs://BUCKET/PREFIX, for VARIANT/index_XXXX/ folders and batch_summary.json."""
    indices: tuple[str, ...] = setting((), group=_OUTPUT, several=True, metavar="I")
    """Only these samples: numbers and inclusive ranges, such as 0-9 20 30:32."""
    only_stages: tuple[int, ...] = setting(
        (1, 2, 3), group=_OUTPUT, several=True, kind=int, choices=tuple(STAGE_NAMES), metavar="STAGE"
    )
    """Only these stages: 1 scaffold, 2 trajectory + point cloud, 3 Gaussian splats."""
    engine: str = setting("full", group=_GENERAL, choices=("full", "preview"))
    """The models to run on: full (GPU and weights) or preview (CPU, no weights; a synthesised preview)."""
    preset: str = setting("default", group=_GENERAL, choices=("smoke", "quick", "default", "quality"))
    """Preview engine only: image size, Gaussians and training length."""
    commercial: bool = setting(False, group=_GENERAL)
    """Refuse models whose licences do not allow every use, and say what to take instead."""
    seed: int = setting(0, group=_GENERAL, kind=int, metavar="N")
    """The seed of everything random; the same seed gives the same files."""
    workers: int = setting(1, group=_GENERAL, kind=int, metavar="N")
    """Jobs run at the same time, each in a process of its own; they share the machine's cores and GPUs."""
    gpus: int | None = setting(None, group=_GENERAL, kind=int, metavar="N")
    """Full engine only: how many of this machine's GPUs are used. They make views side by side: all of them unless
    given. Training splats takes one unless more are given, which share the pictures of a step (--splat_profile fast).
    With --workers every job has GPUs of its own as long as there are enough, and trains on one. Views stay the same
    bytes; training differs in the order of sums."""
    continue_on_error: bool = setting(False, group=_GENERAL)
    """Go on with the other jobs when one fails. Without it the first failure stops the rest."""
    check_checkpoints: bool = setting(False, group=_GENERAL)
    """Before anything runs, check that every model the run needs is there, and say what is missing."""
    dry_run: bool = setting(False, group=_GENERAL)
    """Print what would run, what would be reused or skipped and why, and do nothing."""
    force: bool = setting(False, group=_GENERAL)
    """Run the selected stages again even where their results exist, and replace those."""
    confine_paths: bool = setting(False, group=_GENERAL)
    """Refuse image and scaffold paths that lead out of the data set."""
    log_format: str = setting("auto", group=_GENERAL, choices=("auto", "rich", "text", "json"))
    """How progress is shown: bars (rich), plain lines (text) or JSON lines (json); auto takes bars in a terminal and
    JSON lines elsewhere."""

    def __post_init__(self) -> None:
        if self.seed < 0 or self.seed >= 2**32:
            raise UsageError(f"seed is {self.seed}", where="--seed", remedy="give a number from 0 to 4294967295")
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}", where="--workers", remedy="give a number from 1")
        if self.gpus is not None and self.gpus < 1:
            raise UsageError(f"gpus is {self.gpus}", where="--gpus", remedy="give a number from 1")


@dataclass(frozen=True)
class RunConfig:
    """Everything one command says."""

    batch: BatchConfig
    scaffold: ScaffoldConfig = ScaffoldConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    splat: SplatConfig = SplatConfig()
    full: FullEngineConfig = FullEngineConfig()


CONFIG_CLASSES: tuple[type, ...] = (BatchConfig, ScaffoldConfig, TrajectoryConfig, SplatConfig, FullEngineConfig)


@cache
def help_texts(config_class: type) -> dict[str, str]:
    """The docstring under each field, white space folded."""
    parsed = docstring_parser.parse_from_object(config_class)
    texts = {item.arg_name: " ".join((item.description or "").split()) for item in parsed.params}
    missing = [one.name for one in fields(config_class) if not texts.get(one.name)]
    if missing:
        raise UsageError(f"{config_class.__name__} has fields without help: {', '.join(missing)}")
    return texts
