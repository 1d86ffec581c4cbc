"""What an engine supplies: models behind small Protocols. The stages reach engines through this module only.

Poses in this module are OpenGL camera-to-world in the scene frame (camera 000 at the origin: x right, y up,
z backward) and trajectory units, unless a field says otherwise. Intrinsics are normalised by image width and height.

Example:
    >>> engine = load_engine("preview", EngineSettings(preset="smoke", seed=0))
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
    """Makes new views: SEVA on the full engine, the renderer on the preview engine."""

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        """All T frames of each request ([T, H, W, 3] uint8), given frames as they were given."""


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
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    c2w: Poses


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
    """

    train: Views
    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingResult:
    """Trained Gaussians in the scene frame and what the training says about itself (JSON scalars and lists)."""

    gaussians: Gaussians
    log: dict[str, Any] = field(default_factory=dict)


class SplatTrainer(Protocol):
    """Fits Gaussians to a scene."""

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        """Train; go on from the files in the folder `checkpoint` where there are any, and keep them up to date."""

    def render(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> Images:
        """[N, size, size, 3] uint8 renders of the Gaussians."""


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
class EngineSettings:
    """What the command says to the engine itself."""

    preset: str
    seed: int


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

    def novel_views(self) -> NovelViewModel:
        """The model of new views."""

    def depth(self) -> DepthModel:
        """The model of metric depth."""

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
