"""The full engine: what it says it lacks, and SEVA through its own loading of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_seva import request, save_tiny_weights

from worldexplorer.config import BatchConfig, RunConfig, ScaffoldConfig
from worldexplorer.engine import Engine
from worldexplorer.engines import load_engine
from worldexplorer.errors import UserError
from worldexplorer.models import engine as module
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.seva import model as seva
from worldexplorer.models.seva.fleet import Fleet
from worldexplorer.models.seva.memory import choose_placement
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent


def test_its_novel_views_are_seva_from_the_named_folder(tmp_path, monkeypatch) -> None:
    save_tiny_weights(tmp_path)
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(seva, "first_gpu", lambda title: torch.device("cpu"))
    engine: Engine = FullEngine(SevaSettings(precision="float32", shorter_chunks=True))
    model = engine.novel_views()
    assert engine.novel_views() is model
    (frames,) = model.sample([request(steps=1)], silent)
    assert frames.shape == (6, 64, 64, 3)
    assert frames.dtype == np.uint8


@pytest.mark.slow
def test_several_gpus_make_a_fleet(tmp_path, monkeypatch) -> None:
    """Each loads the weights of the named folder in a process of its own; here on the CPU."""
    save_tiny_weights(tmp_path)
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(module, "equal_gpus", lambda limit: {"cpu": "first", "cpu:0": "second"})
    engine: Engine = FullEngine(SevaSettings(precision="float32", shorter_chunks=True))
    fleet = engine.novel_views()
    assert isinstance(fleet, Fleet)
    with fleet:
        assert [member.name for member in fleet._members] == ["cpu (first)", "cpu:0 (second)"]
        for seed, frames in enumerate(fleet.sample([request(steps=1, seed=seed) for seed in range(3)], silent)):
            assert np.array_equal(frames[:2], request(seed=seed).images[:2])


def test_more_gpus_than_there_are_is_a_missing_thing(gpu_seen) -> None:
    gpu_seen(79, names=("NVIDIA H200",))
    missing = FullEngine(gpus=4).check([1], "single_image", "pan-in-place")
    assert missing[0] == (
        "4 GPUs of one kind are asked for, and CUDA shows 1 (cuda:0 NVIDIA H200) (--gpus): give a number up to 1, or "
        "leave it out; CUDA_VISIBLE_DEVICES says which GPUs CUDA shows"
    )


def test_how_many_gpus_changes_no_fingerprint() -> None:
    assert FullEngine(gpus=2).describe() == FullEngine().describe()


def test_the_check_names_gpu_and_weights(tmp_path, monkeypatch, gpu_seen) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    gpu_seen(0, names=())
    missing = FullEngine().check([1], "single_image", "pan-in-place")
    assert "SEVA needs a CUDA GPU" in missing[0]
    assert [text.split(":")[0] for text in missing[1:]] == [
        "novel views",
        "latents of the novel views",
        "image features of the novel views",
    ]


def test_the_check_is_empty_where_all_is_there(tmp_path, monkeypatch, gpu_seen) -> None:
    save_tiny_weights(tmp_path)
    (tmp_path / "seva-clip" / "config.json").touch()
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    gpu_seen(79)
    assert FullEngine().check([1], "single_image", "pan-in-place") == []
    gpu_seen(3)
    (missing,) = FullEngine().check([1], "single_image", "pan-in-place")
    assert missing.startswith("too little GPU memory for SEVA: 3.0 GiB are free")
    assert "end other programs on this GPU" in missing


def test_the_check_counts_the_frames_of_the_run(gpu_seen) -> None:
    gpu_seen(8)

    def complaints(stages: tuple[int, ...], frames: int, method: str = "single_image") -> str:
        config = ScaffoldConfig(num_seva_frames=frames, scaffold_method=method)
        run = RunConfig(BatchConfig(dataset_dir="set", only_stages=stages), config)
        return " ".join(load_engine(run).check(stages, method, "pan-in-place"))

    wanted = "8.3 GiB are needed for 24 frames at once (7.7 for 21, with --num_seva_frames 8 or 16)"
    assert wanted in complaints((1,), 80)
    assert wanted in complaints((1,), 24, "single_image_hybrid")
    for fine in (complaints((1,), 16), complaints((2,), 80), complaints((2,), 80, "scaffold_gen")):
        assert "too little GPU memory" not in fine


@pytest.mark.parametrize(("capability", "named"), [((8, 6), True), ((9, 0), False)])
def test_the_check_knows_which_gpus_multiply_eight_bit_numbers(gpu_seen, capability, named) -> None:
    gpu_seen(79, capability=capability)
    missing = FullEngine(SevaSettings(fp8=True)).check([1], "single_image", "pan-in-place")
    assert any("cannot multiply eight-bit numbers" in text for text in missing) is named


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_others_leave_until_all_of_seva_fits_in_its_precision(monkeypatch, precision) -> None:
    engine = FullEngine(SevaSettings(precision=precision, most_frames=24))
    asked: list[int] = []
    monkeypatch.setattr(engine._residents, "get", lambda name, wanted, load: asked.append(wanted))
    engine.novel_views()
    size = getattr(torch, precision).itemsize
    assert choose_placement(asked[0], 24, 576 * 576, size).resident
    assert not choose_placement(asked[0] - 2**20, 24, 576 * 576, size).resident


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (SevaSettings(), True),
        (SevaSettings(compile=False), True),  # kernels of our own are compiled too
        (SevaSettings(precision="float32"), True),
        (SevaSettings(precision="float32", compile=False), False),
    ],
)
def test_the_check_wants_a_compiler_where_something_is_compiled(monkeypatch, gpu_seen, settings, named) -> None:
    gpu_seen(79)
    monkeypatch.setattr("shutil.which", lambda name: None)
    missing = FullEngine(settings).check([1], "single_image", "pan-in-place")
    assert any("need a C compiler" in text for text in missing) is named


def test_missing_packages_are_named(monkeypatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", {"no_such_module": "no-such-package"})
    assert "the package no-such-package is not installed" in FullEngine().check([1], "single_image", "orbit")
    with pytest.raises(UserError, match="SEVA needs no-such-package"):
        FullEngine().novel_views()


def test_a_fingerprint_changes_with_what_changes_results() -> None:
    plain = FullEngine().describe()
    assert FullEngine(SevaSettings(compile=False, fused=False)).describe() == plain
    assert FullEngine(SevaSettings(precision="bfloat16")).describe() != plain
    assert FullEngine(SevaSettings(steps=25)).describe()["shortcuts"] == {"steps": 25}
    assert plain["weights"]["seva"]["repository"] == "stabilityai/stable-virtual-camera"
