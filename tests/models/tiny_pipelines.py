"""The models of scaffold_gen, small enough for a CPU: random weights, saved the way the hub has them."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

_LATENTS = 4
_CLIP_TOKENS = 514
_KLEIN_LAYERS = 28
"""Of which the pipeline takes the 9th, 18th and 27th."""


def save_flux(folder: Path, *, fill: bool = False) -> None:
    """FLUX.1-dev, or FLUX.1-Fill-dev: the same but for what its transformer takes in."""
    torch.manual_seed(1)
    transformer = FluxTransformer2DModel(
        in_channels=4 * _LATENTS * 2 + 4 * 8 * 8 if fill else 4 * _LATENTS,
        out_channels=4 * _LATENTS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    pipeline = FluxFillPipeline if fill else FluxPipeline
    pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_codec(),
        text_encoder=CLIPTextModel(_clip_text()),
        tokenizer=clip_tokenizer(folder.parent / "clip-words"),
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=256, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, relative_attention_num_buckets=8
            )
        ),
        tokenizer_2=_ascii_tokenizer(),
        transformer=transformer,
    ).save_pretrained(folder)


def save_klein(folder: Path) -> None:
    """FLUX.2-klein-4B, distilled."""
    torch.manual_seed(2)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    codec = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=4, norm_num_groups=1, sample_size=64
    )
    words = _ascii_tokenizer()
    words.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=256,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=_KLEIN_LAYERS,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
        )
    )
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=codec,
        text_encoder=encoder,
        tokenizer=words,
        transformer=transformer,
        is_distilled=True,
    ).save_pretrained(folder)


def save_sd2(folder: Path) -> None:
    """Stable Diffusion 2 inpainting."""
    torch.manual_seed(3)
    network = UNet2DConditionModel(
        sample_size=8,
        in_channels=9,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    StableDiffusionInpaintPipeline(
        vae=_codec(),
        text_encoder=CLIPTextModel(_clip_text()),
        tokenizer=clip_tokenizer(folder.parent / "clip-words"),
        unet=network,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    """The model that compares pictures with words."""
    torch.manual_seed(4)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=_clip_text().to_dict(),
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    clip_tokenizer(folder)


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Single letters; read from files, since the constructor of the library ignores those it is given."""
    letters = [chr(number) for number in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<{number}>" for number in range(_CLIP_TOKENS - 2 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
    return CLIPTokenizer.from_pretrained(folder)


def _codec() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=_LATENTS,
        shift_factor=0.1,
        scaling_factor=0.4,
        sample_size=64,
    )


def _clip_text() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=_CLIP_TOKENS,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=_CLIP_TOKENS - 2,
        eos_token_id=_CLIP_TOKENS - 1,
        pad_token_id=_CLIP_TOKENS - 1,
        projection_dim=16,
    )


def _ascii_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<unk>": 1} | {letter: number for number, letter in enumerate(string.printable, start=2)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
