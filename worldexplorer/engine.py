"""What an engine supplies: models behind small Protocols. The stages reach engines through this module only.

Poses in this module are OpenGL camera-to-world in the scene frame (camera 000 at the origin: x right, y up,
z backward) and trajectory units, unless a field says otherwise. Intrinsics are normalised by image width and height.

Example:
    >>> engine = load_engine(RunConfig(BatchConfig(dataset_dir="data", engine="preview", preset="smoke")))
    >>> frames = engine.novel_views().sample([request], silent)[0]      # [T, H, W, 3] uint8
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from worldexplorer.geometry.gaussians import Gaussians
    from worldexplorer.progress import Progress

Images = NDArray[np.uint8]
Picture = NDArray[np.uint8]
Poses = NDArray[np.float64]
Guider = Literal["multiview", "temporal"]
PUBLISHED_STEPS = 50
"""Steps of a sampling of new views."""
PUBLISHED_CFG_MIN = 1.2
"""Guidance scale of frames next to a given one."""


@dataclass(frozen=True)
class Views:
    """Posed images.

    Attributes:
        images: [N, H, W, 3] uint8 sRGB.
        c2w: [N, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
        intrinsics: [N, 3, 3] normalised.
    """

    images: Images
    c2w: Poses
    intrinsics: Poses


class World(Protocol):
    """What stage 1 left for the engine's later stages; opaque to the stages, which only store it."""

    def save(self, folder: Path) -> None:
        """Write the world's files into `folder`, which exists."""


@dataclass(frozen=True)
class NovelViewRequest:
    """One joint sampling of T frames, some of them given.

    Attributes:
        images: [T, H, W, 3] uint8; what stands at frames that are not given is ignored.
        given: [T] bool, the frames that condition the others.
        c2w: [T, 4, 4] **OpenCV** camera-to-world, translations multiplied by the translation scaling factor.
        intrinsics: [T, 3, 3] normalised.
        translation_scaling_factor: the factor that `c2w` already contains.
        cfg: guidance scale.
        cfg_min: guidance scale of frames next to a given one.
        guider: how the scale goes from `cfg_min` to `cfg`: `multiview`, at once for every frame that no given one
            nearly shows; `temporal`, with the distance along the request's frames to the nearest given one.
        steps: Euler steps.
        seed: of this sampling's noise.
        world: what stage 1 left, or None.
    """

    images: Images
    given: NDArray[np.bool_]
    c2w: Poses
    intrinsics: Poses
    translation_scaling_factor: float
    cfg: float
    cfg_min: float
    steps: int
    seed: int
    world: World | None = None
    guider: Guider = "multiview"


class NovelViewModel(Protocol):
    """Makes new views: SEVA on the full engine, the renderer on the preview engine.

    The frames of a request follow from that request alone: not from what else is asked for with it, nor from the order,
    nor from which of several equal GPUs made them.
    """

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        """All T frames of each request ([T, H, W, 3] uint8), given frames as they were given."""

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """As `sample`, of many requests: each one's number and frames as soon as they are made, in any order.

        `requests` may be a sequence that makes a request when it is looked up: each is looked up when its turn comes,
        from the thread that iterates. `progress` counts over all requests. The caller takes the next result as soon as
        it can, since nothing may be computed in between.
        """


class DepthModel(Protocol):
    """Metric depth of frames."""

    def depth(self, views: Views, world: World | None, translation_scaling_factor: float) -> NDArray[np.float32]:
        """[N, H, W] float32 z-depth in metres."""


@dataclass(frozen=True)
class PointMaps:
    """A geometry model's answer, in a frame and scale of its own.

    Attributes:
        points: [N, H, W, 3] float32, one point a pixel.
        confidence: [N, H, W] float32, higher is surer.
        c2w: [N, 4, 4] the **OpenCV** poses the model found for the frames, in the same frame and scale.
        depth: [N, H, W] float32 z-depth of the pixels in the same scale, by which they can be put before the known
            cameras instead of where the model saw its own; None where a model gives points alone.
        intrinsics: [N, 3, 3] normalised, of the known cameras; given with `depth`.
        passes: [N] by which pass each frame's answer is, where the model did not look at all together: each pass has a
            frame and scale of its own. None where it did.
        looks: of each pass the numbers of all frames that it looked at, [K], and the poses it found for them,
            [K, 4, 4] as in `c2w`; those included for which another pass answers. Empty where there are no such.
        notes: how the answer was made, where that was not as usual; a record names it.
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    c2w: Poses
    depth: NDArray[np.float32] | None = None
    intrinsics: Poses | None = None
    passes: NDArray[np.intp] | None = None
    looks: tuple[tuple[NDArray[np.intp], Poses], ...] = ()
    notes: tuple[str, ...] = ()


class GeometryModel(Protocol):
    """Points from frames: VGGT or Depth Anything 3 on the full engine, the range map on the preview engine."""

    def points(self, views: Views, world: World | None, translation_scaling_factor: float) -> PointMaps:
        """One point map a view."""


@dataclass(frozen=True)
class SplatScene:
    """What a trainer trains on.

    Attributes:
        train: the training views.
        points: [P, 3] float32 initial points, scene frame.
        normals: [P, 3] float32 unit normals towards the cameras.
        colours: [P, 3] uint8.
        made_smaller: how many of the engine's `StageDefaults.smaller_trainings` are in force, all up to this one: 0
            at first, one more after each time that memory ran out. A trainer whose checkpoint was written with another
            number goes on from it where it can, and else starts anew.
        folder: a local folder that holds the same as files, with `transforms.json` and the paths it names; None where
            there is none.
    """

    train: Views
    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    made_smaller: int = 0
    folder: Path | None = None


@dataclass(frozen=True)
class TrainingResult:
    """Trained Gaussians in the scene frame and what the training says about itself.

    Attributes:
        gaussians: what was trained.
        log: JSON scalars and lists.
        antialiased: whether they are meant for a renderer that takes back, in each Gaussian's opacity, what the blur on
            the image adds to its area.
    """

    gaussians: Gaussians
    log: dict[str, Any] = field(default_factory=dict)
    antialiased: bool = False


@dataclass(frozen=True)
class NotMeasured:
    """A number that there is none of.

    Attributes:
        reason: why, and what to do for it; a sentence without its full stop.
    """

    reason: str


class SplatTrainer(Protocol):
    """Fits Gaussians to a scene."""

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        """Train; go on from the files in the folder `checkpoint` where there are any, and keep them up to date."""

    def render(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> Images:
        """[N, size, size, 3] uint8 renders of the Gaussians."""

    def render_depth(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> NDArray[np.float32]:
        """[N, size, size] float32 z-depth in the Gaussians' units, infinite where they cover less than half of a pixel.

        The depth of a pixel is the mean depth of the Gaussians' centres, each counting as much as its colour does.
        """

    def contributions(
        self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int, progress: Progress
    ) -> NDArray[np.float64]:
        """[N] the share of each Gaussian in the pictures: its blending weight, summed over all pixels of all views.

        That is the derivative of the sum of one colour channel of the renders by the Gaussian's colour. `progress` is
        told the views done.
        """

    def lpips(self, gaussians: Gaussians, views: Views) -> float | NotMeasured:
        """The mean perceptual distance (LPIPS, AlexNet) of renders of the Gaussians to views, 0 where they are equal.

        Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018). Nothing
        is downloaded: it is measured where the network's weights are on the machine.
        """


@dataclass(frozen=True)
class TextToImageRequest:
    """One picture from words.

    Attributes:
        prompt: what it shows.
        seed: of its noise; equal requests give equal pictures, whatever else is made with them.
        size: its width and height, pixels.
    """

    prompt: str
    seed: int
    size: int


class TextToImageModel(Protocol):
    """A picture from a prompt (scaffold_gen). Steps and guidance are the model's own, and part of `Engine.describe`."""

    def generate(self, requests: Sequence[TextToImageRequest], progress: Progress) -> Iterator[Picture]:
        """A picture [size, size, 3] of each request, in their order, each given out as soon as it is made.

        `progress` counts over all requests. The caller keeps each picture before it takes the next.
        """


@dataclass(frozen=True)
class InpaintRequest:
    """One picture of which a part is to be made.

    Attributes:
        image: [S, S, 3]; what stands under the mask is to be ignored.
        mask: [S, S] bool, True where the picture is to be made.
        prompt: what the whole picture shows.
        negative_prompt: what it does not; models that take none ignore it.
        guidance: scale of the prompt's guidance.
        seed: of its noise; equal requests give equal pictures, whatever else is made with them.
    """

    image: Picture
    mask: NDArray[np.bool_]
    prompt: str
    negative_prompt: str
    guidance: float
    seed: int


class InpaintModel(Protocol):
    """Makes the masked part of a picture (scaffold_gen)."""

    def inpaint(self, requests: Sequence[InpaintRequest], progress: Progress) -> Iterator[Picture]:
        """A picture [S, S, 3] of each request, in their order, each given out as soon as it is made.

        What is not masked may come out slightly changed: the caller lays the given pixels over it. Requests next to
        each other with one guidance scale can be made in one batch. `progress` counts over all requests. The caller
        keeps each picture before it takes the next.
        """


class PromptScorer(Protocol):
    """How well pictures show what texts say (CLIP)."""

    def score(self, images: Images, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
        """[N, T] cosine similarities of N pictures ([N, S, S, 3]) and T texts; a text that is too long is cut."""


@dataclass(frozen=True)
class StageDefaults:
    """What an engine sets where neither the sample nor the command does."""

    num_images_for_vggt: int
    frames_per_trajectory: int | None
    """Frames of each trajectory; None for the published counts (45 and 135)."""
    point_count: int
    """Points of the point cloud after down-sampling."""
    heldout_views: int
    """Views kept out of training, to measure with."""
    sampling_frames: int | None = None
    """Most frames of one sampling, those given included; None where any number can be made in one go."""
    joint_frames: int | None = None
    """Most frames of stage 1's joint sampling, where a model bears more there than elsewhere; None where not."""
    splat_training: Mapping[str, Any] = field(default_factory=dict)
    """What of the trainer's settings changes its results: part of stage 3's fingerprint alone."""
    smaller_trainings: tuple[str, ...] = ()
    """What stage 3 changes, one thing after the other, each time that memory ran out in training, in the words of a
    record; the trainer reads in `SplatScene.made_smaller` how many are in force."""


class Engine(Protocol):
    """The models a run uses, and what they are."""

    name: str
    label: str
    """What images and reports are marked with."""
    licence: str
    remedy: str
    """What to do where the engine cannot run."""
    image_size: int
    stage_weights: tuple[float, float, float]
    """Rough shares of a job's time by stage; only the estimate of the time left uses them."""
    defaults: StageDefaults

    def describe(self) -> dict[str, Any]:
        """Settings and model revisions that change results: part of every fingerprint and record."""

    def check(self, stages: Sequence[int], scaffold_method: str, traj_prior: str) -> list[str]:
        """What keeps this engine from running these stages here, one sentence each; empty when it can run."""

    def build_world(self, photo: Images, hfov_deg: float, scene_type: str | None, progress: Progress) -> World | None:
        """The world of one photo ([H, W, 3], its true horizontal FOV), or None for engines that need none."""

    def load_world(self, folder: Path | None, scaffold: Views) -> World | None:
        """The world that stage 1 left in `folder`; made from the eight views where there is none."""

    def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
        """Further views the engine's trainer needs, by trajectory name; [N, 4, 4] in the scene frame."""

    def scene_models(self, scene_type: str | None) -> Mapping[str, str]:
        """Which of several models stage 2 takes in such a place, by role; empty where there is no choice.

        Part of stage 2's fingerprint and record. `scene_type` is as for `depth`.
        """

    def novel_views(self) -> NovelViewModel:
        """The model of new views."""

    def depth(self, scene_type: str | None = None) -> DepthModel:
        """The model of metric depth, for a place that is `indoor`, `outdoor` or of another or unknown kind."""

    def geometry(self) -> GeometryModel:
        """The model of points."""

    def splat_trainer(self) -> SplatTrainer:
        """The trainer of Gaussians."""

    def text_to_image(self, name: str) -> TextToImageModel:
        """A model of pictures from words, by its name in `--text_to_image`; UsageError where the engine has none."""

    def inpaint(self, name: str) -> InpaintModel:
        """A model that fills parts of pictures, by its name in `--inpaint`; UsageError where the engine has none."""

    def prompt_scorer(self) -> PromptScorer:
        """The model that compares pictures with words; UsageError where the engine has none."""
