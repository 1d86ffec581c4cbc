"""What stage 1 costs on this GPU: pans of a photo, views from text and corner views; random weights at full size.

Prints seconds and peak memory of whole pans (photo in, files out), and for each model of pictures the GiB of its
weights, seconds of a warm picture and peak memory; for FLUX also with one network on the GPU at a time. Everything is
made by the program's own code.

Example:
    python benchmarks/stage1.py --json stage1.json
"""

from __future__ import annotations

import argparse
import gc
import json
import string
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from pan import PanBench, random_seva
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from worldexplorer.engine import InpaintRequest, TextToImageRequest
from worldexplorer.models.flux import FluxModel
from worldexplorer.models.inpaint import InpaintingModel
from worldexplorer.models.picture_models import Placement
from worldexplorer.models.pipelines import PictureMaker
from worldexplorer.models.residents import Residents
from worldexplorer.progress import silent

_GIB = 2**30
_PROMPT = "a living room of a castle, with the horizon line centered, shot from an eye-level, straight-on camera"
_PARTS = ("pan", "flux", "sd2", "klein", "fill", "flux-in-parts")
_PANS = (8, 80)


class Sizes:
    """Of the networks: full as published, or so small that a CPU makes a picture in a second."""

    def __init__(self, *, tiny: bool) -> None:
        self.tiny = tiny

    def pick(self, full: Any, tiny: Any) -> Any:
        """One of the two."""
        return tiny if self.tiny else full

    def flux(self, pipeline: Any = FluxPipeline) -> Any:
        """FLUX.1-dev, or FLUX.1-Fill-dev, which also takes the latents of what is given and the mask."""
        pick = self.pick
        return pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=self._codec(latents=16, scale=0.3611, shift=0.1159),
            text_encoder=CLIPTextModel(self._clip_text(768, 12)),
            tokenizer=words(77),
            text_encoder_2=T5EncoderModel(
                T5Config(
                    vocab_size=32128,
                    d_model=pick(4096, 32),
                    d_kv=pick(64, 8),
                    d_ff=pick(10240, 32),
                    num_layers=pick(24, 1),
                    num_heads=pick(64, 4),
                    feed_forward_proj="gated-gelu",
                )
            ),
            tokenizer_2=words(512),
            transformer=FluxTransformer2DModel(
                in_channels=64 if pipeline is FluxPipeline else 384,
                out_channels=64,
                num_layers=pick(19, 1),
                num_single_layers=pick(38, 1),
                attention_head_dim=pick(128, 16),
                num_attention_heads=pick(24, 2),
                joint_attention_dim=pick(4096, 32),
                pooled_projection_dim=pick(768, 32),
                guidance_embeds=True,
                axes_dims_rope=pick((16, 56, 56), (4, 4, 8)),
            ),
        )

    def klein(self, pipeline: Any = Flux2KleinPipeline) -> Any:
        """FLUX.2-klein-4B."""
        pick = self.pick
        tokens = words(512)
        tokens.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
        encoder = Qwen3Config(
            vocab_size=pick(151936, 512),
            hidden_size=pick(2560, 16),
            intermediate_size=pick(9728, 16),
            num_hidden_layers=pick(36, 28),
            num_attention_heads=pick(32, 2),
            num_key_value_heads=pick(8, 2),
            head_dim=pick(128, 8),
            tie_word_embeddings=True,
        )
        blocks = pick((128, 256, 512, 512), (4, 4, 4, 4))
        return pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=AutoencoderKLFlux2(block_out_channels=blocks, norm_num_groups=pick(32, 1), layers_per_block=pick(2, 1)),
            text_encoder=Qwen3ForCausalLM(encoder),
            tokenizer=tokens,
            transformer=Flux2Transformer2DModel(
                num_layers=pick(5, 1),
                num_single_layers=pick(20, 1),
                attention_head_dim=pick(128, 16),
                num_attention_heads=pick(24, 2),
                joint_attention_dim=pick(7680, 48),
                axes_dims_rope=pick((32, 32, 32, 32), (4, 4, 4, 4)),
                guidance_embeds=False,
            ),
            is_distilled=True,
        )

    def sd2(self) -> StableDiffusionInpaintPipeline:
        """Stable Diffusion 2 inpainting."""
        pick = self.pick
        return StableDiffusionInpaintPipeline(
            vae=self._codec(latents=4, scale=0.18215, shift=None),
            text_encoder=CLIPTextModel(self._clip_text(1024, 23)),
            tokenizer=words(77),
            unet=UNet2DConditionModel(
                sample_size=64,
                in_channels=9,
                out_channels=4,
                block_out_channels=pick((320, 640, 1280, 1280), (8, 8, 8, 8)),
                layers_per_block=pick(2, 1),
                norm_num_groups=pick(32, 4),
                cross_attention_dim=pick(1024, 32),
                attention_head_dim=pick((5, 10, 20, 20), 2),
                use_linear_projection=True,
            ),
            scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def _codec(self, latents: int, scale: float, shift: float | None) -> AutoencoderKL:
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=self.pick((128, 256, 512, 512), (8, 8, 8, 8)),
            layers_per_block=self.pick(2, 1),
            norm_num_groups=self.pick(32, 8),
            latent_channels=latents,
            scaling_factor=scale,
            shift_factor=shift,
            use_quant_conv=shift is None,
            use_post_quant_conv=shift is None,
        )

    def _clip_text(self, width: int, layers: int) -> CLIPTextConfig:
        size = self.pick(width, 32)
        return CLIPTextConfig(
            hidden_size=size,
            intermediate_size=4 * size,
            num_hidden_layers=self.pick(layers, 1),
            num_attention_heads=self.pick(width // 64, 4),
        )


def words(length: int) -> PreTrainedTokenizerFast:
    """A tokenizer of single letters that fills texts up to a length, as those of the models do."""
    known = {"<pad>": 0, "<unk>": 1} | {letter: number for number, letter in enumerate(string.printable, start=2)}
    tokenizer = Tokenizer(WordLevel(known, unk_token="<unk>"))  # noqa: S106 (a token of texts)
    tokenizer.pre_tokenizer = Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        model_max_length=length,
    )


class RandomWeights:
    """Stands in for a pipeline's class: what it loads is made on the device."""

    def __init__(self, name: str, build: Callable[[], Any], device: torch.device) -> None:
        self.__name__ = name
        self._build = build
        self._device = device
        self.made: Any = None

    def from_pretrained(self, _folder: Path, dtype: torch.dtype, **_settings: Any) -> Any:
        """Build it with random weights of the type."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with self._device:
                self.made = self._build()
        finally:
            torch.set_default_dtype(before)
        for network in networks(self.made):
            network.to(dtype).requires_grad_(requires_grad=False).eval()
        return self.made


class UncheckedMaker(PictureMaker):
    """What random weights draw may be of one colour."""

    def _check(self, made: Any, seeds: Sequence[int]) -> None:
        assert len(made) == len(seeds)


def size_of(network: torch.nn.Module) -> int:
    """Bytes of its weights."""
    return sum(one.numel() * one.element_size() for one in network.parameters())


def networks(pipeline: Any) -> list[torch.nn.Module]:
    """The pipeline's networks."""
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="*", default=list(_PARTS), choices=_PARTS)
    parser.add_argument("--steps", type=int, default=50, help="of SEVA, FLUX.1 and Stable Diffusion 2")
    parser.add_argument("--size", type=int, default=576)
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU: whether this script works")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    diffusers.utils.logging.set_verbosity_error()
    device = torch.device("cpu" if arguments.tiny else "cuda")
    bench = Bench(Sizes(tiny=arguments.tiny), device, arguments.steps, arguments.size)
    figures: dict[str, Any] = {"device": "CPU" if arguments.tiny else torch.cuda.get_device_name()}
    figures |= {"torch": torch.__version__, "diffusers": diffusers.__version__, "pixels": arguments.size}
    print(json.dumps(figures), flush=True)
    for part in arguments.parts:
        start = time.perf_counter()
        for name, row in getattr(bench, part.replace("-", "_"))():
            figures[name] = row
            print(name, json.dumps(row), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(figures, indent=1))
        bench.residents.keep_only("")
        gc.collect()
        print(f"{part}: {time.perf_counter() - start:.1f} s in all", flush=True)


class Bench:
    """The measurements."""

    def __init__(self, sizes: Sizes, device: torch.device, steps: int, size: int) -> None:
        self._sizes = sizes
        self._device = device
        self._steps = steps
        self._size = size
        self.residents = Residents()

    def pan(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pans of a photo by SEVA."""
        with random_seva(self._device, tiny=self._sizes.tiny) as model:
            operations = type(model._network.operations).__name__
            packages = [name for name in ("flash_attn", "quack") if find_spec(name) is not None]
            yield (
                "SEVA",
                {
                    "placement": str(model.placement),
                    "operations": operations,
                    "packages": packages,
                    "load s": round(model.load_seconds, 1),
                },
            )
            bench = PanBench(model, self._size, self._steps, self._peak)
            for frames in _PANS:
                yield f"pan of {frames} frames", bench.measure(frames)

    def flux(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """FLUX.1-dev with all networks on the GPU."""
        model = FluxModel("flux1-dev", Path, self.residents, self._steps, self._device)
        yield "FLUX.1-dev", self._text(model, self._sizes.flux, self._steps)

    def flux_in_parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """FLUX.1-dev with one network on the GPU at a time."""
        if self._device.type != "cuda":
            return
        model = FluxModel("flux1-dev", Path, self.residents, self._steps, self._device)
        yield "FLUX.1-dev, one network at a time", self._text(model, self._sizes.flux, 4, in_parts=True)

    def klein(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """FLUX.2-klein-4B, from text and inpainting."""
        model = FluxModel("flux2-klein", Path, self.residents, None, self._device)
        yield "FLUX.2-klein-4B", self._text(model, self._sizes.klein, model.steps)
        self.residents.keep_only("")
        filler = InpaintingModel("flux2-klein", Path, self.residents, None, self._device)
        build = lambda: self._sizes.klein(Flux2KleinInpaintPipeline)  # noqa: E731 (named by its use)
        yield "FLUX.2-klein-4B inpainting", self._holes(filler, build, filler.steps, 1)

    def fill(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """FLUX.1-Fill-dev."""
        filler = InpaintingModel("flux1-fill", Path, self.residents, self._steps, self._device)
        build = lambda: self._sizes.flux(FluxFillPipeline)  # noqa: E731 (named by its use)
        yield "FLUX.1-Fill-dev", self._holes(filler, build, self._steps, 1)

    def sd2(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Stable Diffusion 2 inpainting, one at a time and eight at once."""
        for together in (1, 8):
            filler = InpaintingModel("sd2-inpainting", Path, self.residents, self._steps, self._device)
            filler.model = replace(filler.model, together=together)
            name = f"Stable Diffusion 2 inpainting, {together} at once"
            yield name, self._holes(filler, self._sizes.sd2, self._steps, together)
            self.residents.keep_only("")

    def _text(
        self, model: FluxModel, build: Callable[[], Any], steps: int, *, in_parts: bool = False
    ) -> dict[str, Any]:
        source = self._maker(model, build, in_parts=in_parts)

        def picture(number: int, some: int) -> Any:
            model.steps = some
            return list(model.generate([TextToImageRequest(_PROMPT, number, self._size)], silent))

        return self._measured(picture, source, steps, 1)

    def _holes(self, model: InpaintingModel, build: Callable[[], Any], steps: int, together: int) -> dict[str, Any]:
        source = self._maker(model, build)
        image = np.random.default_rng(0).integers(0, 256, (self._size, self._size, 3), dtype=np.uint8)
        mask = np.zeros(image.shape[:2], dtype=np.bool_)
        mask[:, round(0.26 * self._size) : round(0.74 * self._size)] = True

        def pictures(number: int, some: int) -> Any:
            model.steps = some
            seeds = range(number, number + together)
            return list(
                model.inpaint([InpaintRequest(image, mask, "blend", "text", 7.0, seed) for seed in seeds], silent)
            )

        return self._measured(pictures, source, steps, together)

    def _maker(self, model: Any, build: Callable[[], Any], *, in_parts: bool = False) -> RandomWeights:
        source = RandomWeights(type(model).__name__, build, self._device)
        maker = UncheckedMaker(model.model, source, Path, self.residents, self._device)
        if in_parts:
            maker._smaller = Placement(resident=False, together=1)
        model.maker = maker
        return source

    def _measured(
        self, make: Callable[[int, int], Any], source: RandomWeights, steps: int, count: int
    ) -> dict[str, Any]:
        with self._peak() as cold:
            make(0, 2)
        weights = sum(map(size_of, networks(source.made)))
        with self._work_of(max(networks(source.made), key=size_of)) as work:
            make(1, 2)
        source.made = None  # from here on the residents alone hold it, and drop it for the next one
        with self._peak() as warm:
            make(2, steps)
        return {
            "weights GiB": round(weights / _GIB, 2),
            "steps": steps,
            "pictures": count,
            "s a picture": round(warm["s"] / count, 3),
            "peak allocated GiB": warm.get("allocated"),
            "peak reserved GiB": warm.get("reserved"),
            "beside torch GiB": warm.get("beside"),
            "work of the largest network GiB": work.get("GiB"),
            "first s, weights made": round(cold["s"], 1),
        }

    @contextmanager
    def _work_of(self, network: torch.nn.Module) -> Iterator[dict[str, float]]:
        """What a network's calls take in the block, besides what there was before each: the least room for it."""
        found: dict[str, float] = {}
        if self._device.type != "cuda":
            yield found
            return
        before = 0

        def begin(*_: Any) -> None:
            nonlocal before
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()

        def end(*_: Any) -> None:
            taken = (torch.cuda.max_memory_allocated() - before) / _GIB
            found["GiB"] = round(max(found.get("GiB", 0.0), taken), 2)

        hooks = [network.register_forward_pre_hook(begin), network.register_forward_hook(end)]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _peak(self) -> Iterator[dict[str, float]]:
        """Seconds and memory of the block."""
        found: dict[str, float] = {}
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        yield found
        if on_gpu:
            torch.cuda.synchronize()
            found["allocated"] = round(torch.cuda.max_memory_allocated() / _GIB, 2)
            found["reserved"] = round(torch.cuda.max_memory_reserved() / _GIB, 2)
            free, every = torch.cuda.mem_get_info()
            found["beside"] = round((every - free - torch.cuda.memory_reserved()) / _GIB, 2)
        found["s"] = time.perf_counter() - start


if __name__ == "__main__":
    main()
