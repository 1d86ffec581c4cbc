"""SEVA as the stages see it: posed pictures in, pictures of the other poses out.

The network, the picture encoder and the image tower are loaded once and stay. What the encoders make of a given picture
is kept, so a scaffold's eight views are encoded once a scene.

A sampling's frames depend on its request alone: its noise on its seed, and every sampling and every given picture is
computed by itself, because kernels sum in another order where a batch has another size. One sampling fills a GPU, so
nothing is lost.

Example:
    >>> model = SevaModel(SevaFiles(network=..., codec=..., tower=...))
    >>> frames = model.sample([request], silent)[0]          # [T, 576, 576, 3] uint8
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.errors import DefectError, OutOfMemoryError, UserError
from worldexplorer.models.compilers import keep_compiled_kernels, require_compiler
from worldexplorer.models.gpus import card_of, first_gpu
from worldexplorer.models.seva.attention import attention_backends
from worldexplorer.models.seva.cameras import pluecker_maps
from worldexplorer.models.seva.checkpoint import load_network
from worldexplorer.models.seva.config import LATENT_CHANNELS, LATENT_SCALE, TRAINED_FRAMES
from worldexplorer.models.seva.eight_bit import EightBitOperations, require_eight_bit_units
from worldexplorer.models.seva.guidance import guidance_scales
from worldexplorer.models.seva.memory import PUBLISHED_PIXELS, Placement, choose_placement, least_gib
from worldexplorer.models.seva.operations import Operations
from worldexplorer.models.seva.pictures import load_codec, load_image_tower
from worldexplorer.models.seva.sampler import Conditions, SamplingPlan, Step, sample, take_step
from worldexplorer.models.seva.settings import OWN_KERNELS_FROM, SevaSettings
from worldexplorer.progress import Progress, part
from worldexplorer.units import GIB

_DEEPEST = 8
"""Latent pixels to one at the deepest level: pictures are multiples of 64 pixels each way."""
_REMEMBERED = 1024
"""Given pictures whose encodings are kept; 90 KB each."""
_DENOISING_SHARE = 0.95

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SevaFiles:
    """Local weights.

    Attributes:
        network: the safetensors file.
        codec: folder of the autoencoder.
        tower: folder of the CLIP model.
    """

    network: Path
    codec: Path
    tower: Path


@dataclass(frozen=True)
class _Job:
    """A request with its padding: the frames that are sampled together."""

    request: NovelViewRequest
    given: Tensor
    c2w: Tensor
    intrinsics: Tensor
    sources: list[int]  # for each sampled frame the request's frame it is, or copies


class SevaModel:
    """SEVA on one device (:class:`worldexplorer.engine.NovelViewModel`).

    Args:
        files: the weights.
        settings: how to run it.
        device: to compute on; the first CUDA GPU unless given.

    Raises:
        UserError: there is no CUDA GPU, it has too little memory, or the files are not SEVA's weights.
    """

    def __init__(
        self, files: SevaFiles, settings: SevaSettings | None = None, device: torch.device | None = None
    ) -> None:
        self.settings = settings or SevaSettings()
        self.device = device or first_gpu("SEVA")
        self._kind: torch.dtype = getattr(torch, self.settings.precision)
        self._known: OrderedDict[bytes, tuple[Tensor, Tensor]] = OrderedDict()
        self.placement = self._place()
        start = time.perf_counter()
        keep_compiled_kernels()
        on_gpu = self.device.type == "cuda"
        self._network = load_network(files.network, None, self.device, self._kind)
        self._encoder_home = self.device if self.placement.resident else torch.device("cpu")
        encoder_kind = torch.bfloat16 if on_gpu and self._kind != torch.float32 else torch.float32
        self._codec = load_codec(
            files.codec,
            self._encoder_home,
            encoder_kind,
            operations=_codec_operations() if self._own_kernels else None,
            compiled=self.settings.compile and on_gpu and not self._own_kernels,
        )
        self._tower = load_image_tower(files.tower, self._encoder_home, encoder_kind)
        self._step = self._make_step()
        self.load_seconds = time.perf_counter() - start
        _log.info(
            "SEVA loaded in %.1f s on %s: %s, operations %s",
            self.load_seconds,
            torch.cuda.get_device_name(self.device) if on_gpu else "the CPU",
            self.placement,
            type(self._network.operations).__name__,
        )

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        """All frames of each request; given ones as they were given.

        Raises:
            UserError: a request's pictures have a size the network does not take.
            OutOfMemoryError: the GPU's memory ran out.
            DefectError: the network's result is not finite.
        """
        return [frames for _, frames in self.sample_each(requests, progress)]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """As `sample`, each result as soon as it is made, one after the other."""
        for number, request in enumerate(requests):
            span = part(progress, number / len(requests), (number + 1) / len(requests))
            with torch.inference_mode(), attention_backends(self.device), self._memory_errors():
                frames = self._sample(self._job(request), span)
            yield number, frames

    def _sample(self, job: _Job, progress: Progress) -> Images:
        request = job.request
        latents, token = self._encode(job)
        pluecker = pluecker_maps(job.c2w, job.intrinsics, *latents.shape[-2:])
        scales = guidance_scales(request.guider, job.c2w, job.intrinsics, job.given, request.cfg, request.cfg_min)
        (result,) = sample(
            self._network,
            Conditions(latents[None], job.given[None], token[None], pluecker[None]),
            starting_noise(request.seed, latents.shape)[None].to(self.device),
            scales[None],
            self._plan(request),
            part(progress, 0.0, _DENOISING_SHARE),
            self._step,
        )
        if not torch.isfinite(result).all():
            raise DefectError(
                "SEVA's result is not finite",
                where=f"{self.settings.precision}, seed {request.seed}",
                remedy="run it in bfloat16, whose range is wider; if that fails too, the weights are damaged",
            )
        frames = self._decode(job, result)
        progress(1, 1, "decoding")
        return frames

    def _plan(self, request: NovelViewRequest) -> SamplingPlan:
        settings = self.settings
        return SamplingPlan(settings.steps or request.steps, settings.multistep, settings.guidance_interval)

    def _job(self, request: NovelViewRequest) -> _Job:
        height, width = request.images.shape[1:3]
        multiple = LATENT_SCALE * _DEEPEST
        if height % multiple or width % multiple:
            raise UserError(
                f"SEVA takes pictures whose sides are multiples of {multiple} pixels, not {width} x {height}",
                remedy="take the full engine's own image size",
            )
        self._refuse_what_does_not_fit(len(request.given), height * width)
        sources = list(range(len(request.given)))
        given = np.flatnonzero(request.given)
        if len(given) and not self.settings.shorter_chunks:
            sources += [int(given[-1])] * (TRAINED_FRAMES - len(sources))
        return _Job(
            request=request,
            given=torch.from_numpy(request.given[sources]).to(self.device),
            c2w=torch.from_numpy(request.c2w[sources]).to(self.device),
            intrinsics=torch.from_numpy(request.intrinsics[sources]).to(self.device),
            sources=sources,
        )

    def _refuse_what_does_not_fit(self, frames: int, pixels: int) -> None:
        """More frames than the network was trained with are sampled together too, where there is memory for them.

        Where there is none, it has run out: the stage is tried again with fewer.
        """
        if self.device.type != "cuda" or frames <= TRAINED_FRAMES:
            return
        free, _ = torch.cuda.mem_get_info(self.device)
        held = torch.cuda.memory_reserved(self.device)
        try:
            choose_placement(free + held, frames, pixels, self._kind.itemsize, winograd=self._winograd)
        except UserError as error:
            raise OutOfMemoryError(error.what, where=str(self.device), remedy=error.remedy) from None

    def _encode(self, job: _Job) -> tuple[Tensor, Tensor]:
        """Latents [T, 4, h, w] with zeros where a frame is not given, and the mean token of the given ones."""
        height, width = job.request.images.shape[1:3]
        size = (len(job.sources), LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE)
        latents = torch.zeros(size, device=self.device)
        places = [place for place, source in enumerate(job.sources) if job.request.given[source]]
        if not places:
            return latents, torch.zeros(self._network.config.context_dim, device=self.device)
        pictures = [np.ascontiguousarray(job.request.images[job.sources[place]]) for place in places]
        known = self._encodings(pictures)
        latents[places] = torch.stack([one for one, _ in known]).to(self.device)
        return latents, torch.stack([token for _, token in known]).to(self.device).mean(dim=0)

    def _encodings(self, pictures: list[Any]) -> list[tuple[Tensor, Tensor]]:
        """Latents and token of each picture; those seen before are remembered."""
        digests = [hashlib.sha256(str(picture.shape).encode() + picture.tobytes()).digest() for picture in pictures]
        fresh = {
            digest: picture for digest, picture in zip(digests, pictures, strict=True) if digest not in self._known
        }
        if fresh:
            with self._encoders():
                for digest, picture in fresh.items():
                    image = torch.from_numpy(picture)[None].to(self.device)
                    self._known[digest] = self._codec.encode(image)[0].cpu(), self._tower.embed(image)[0].cpu()
        found = [self._known[digest] for digest in digests]
        for digest in digests:
            self._known.move_to_end(digest)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _decode(self, job: _Job, latents: Tensor) -> Images:
        request = job.request
        frames: Images = request.images.copy()
        wanted = np.flatnonzero(~request.given)
        if len(wanted):
            with self._encoders():
                frames[wanted] = self._codec.decode(latents[torch.from_numpy(wanted).to(latents.device)]).cpu().numpy()
        return frames

    @contextmanager
    def _encoders(self) -> Iterator[None]:
        """The encoders on the device; they go home afterwards."""
        models = (self._codec.model, self._tower.model)
        try:
            for model in models:
                model.to(self.device)
            yield
        finally:
            for model in models:
                model.to(self._encoder_home)
            if not self.placement.resident and self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _place(self) -> Placement:
        if self.device.type != "cuda":
            return Placement(resident=True, recorded=False)
        free, _ = torch.cuda.mem_get_info(self.device)
        most = self.settings.most_frames
        if least_gib(most, PUBLISHED_PIXELS, self._kind.itemsize, winograd=self._winograd) > free / GIB:
            most = TRAINED_FRAMES  # a sampling of more is refused when it comes: not every run gets to one
        return choose_placement(free, most, PUBLISHED_PIXELS, self._kind.itemsize, winograd=self._winograd)

    @property
    def _own_kernels(self) -> bool:
        """Whether this GPU, this precision and the settings have kernels of our own."""
        half = self.device.type == "cuda" and self._kind != torch.float32
        return half and self.settings.fused and card_of(self.device)[0] >= OWN_KERNELS_FROM

    @property
    def _winograd(self) -> bool:
        """Whether wide convolutions are computed by Winograd's filtering."""
        return self.device.type == "cuda" and self.settings.winograd(*card_of(self.device))

    def _make_step(self) -> Step:
        """The fastest way to take a step here."""
        if self.settings.fp8:
            self._network.operations = EightBitOperations()
        if self.device.type != "cuda":
            return take_step
        step: Step = take_step
        if self.settings.fp8:
            require_eight_bit_units(
                torch.cuda.get_device_capability(self.device), torch.cuda.get_device_name(self.device)
            )
        if self.settings.needs_compiler:
            require_compiler("SEVA")
        if self._own_kernels:
            from worldexplorer.models.seva.fused import FusedOperations
            from worldexplorer.models.seva.fused_eight_bit import FusedEightBitOperations

            kind = FusedEightBitOperations if self.settings.fp8 else FusedOperations
            self._network.operations = kind(winograd=self._winograd)
        elif self.settings.compile:
            step = torch.compile(take_step)
        if self.settings.record and self.placement.recorded:
            from worldexplorer.models.seva.recording import RecordedStep

            step = RecordedStep(step)
        return step

    @contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemoryError(
                f"the GPU's memory ran out ({str(error).splitlines()[0]})",
                where=str(self.device),
                remedy="end other programs on this GPU, or take one with more memory",
            ) from error


def load_on(device: str, files: SevaFiles, settings: SevaSettings) -> SevaModel:
    """SEVA on a device that becomes this process's own: a loader for a fleet."""
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    return SevaModel(files, settings, place)


def _codec_operations() -> Operations:
    """Kernels of our own, which are imported on a CUDA GPU only; the autoencoder computes in bfloat16."""
    from worldexplorer.models.seva.fused import FusedOperations

    return FusedOperations(packages=False, winograd=False)


def starting_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers of a seed, made on the CPU: the same whatever device computes with them."""
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed))
