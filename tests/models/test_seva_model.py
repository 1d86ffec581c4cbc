"""SEVA as the stages use it, on a CPU at the tiny size: seeds, batches, padding, caches, errors, progress."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_seva import request, save_tiny_weights

from worldexplorer.engine import NovelViewModel
from worldexplorer.errors import Cancelled, DefectError, ErrorClass, OutOfMemoryError, UserError, classify
from worldexplorer.models.seva import model as module
from worldexplorer.models.seva.model import SevaFiles, SevaModel, starting_noise
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent
from worldexplorer.units import GIB

CPU = torch.device("cpu")
SHORT = SevaSettings(precision="float32", shorter_chunks=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SevaFiles:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def model(files: SevaFiles) -> SevaModel:
    return SevaModel(files, SHORT, CPU)


def test_given_frames_come_back_as_given_and_the_others_are_made(model: NovelViewModel) -> None:
    asked = request()
    (frames,) = model.sample([asked], silent)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames[asked.given], asked.images[asked.given])
    assert (frames[~asked.given].std(axis=(1, 2, 3)) > 1).all()
    assert not asked.images[~asked.given].any()  # the request is left as it was


def test_frames_depend_on_their_seed_not_on_the_order(model: SevaModel) -> None:
    requests = [request(seed=seed) for seed in (1, 2)]
    first = model.sample(requests, silent)
    second = model.sample(requests[::-1], silent)[::-1]
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)
    again = model.sample([dataclasses.replace(requests[0], seed=7)], silent)[0]
    assert not np.array_equal(again, first[0])


def test_frames_depend_on_their_request_alone(files: SevaFiles) -> None:
    """Not on what was asked for with them, nor on what was made before: several GPUs and resumed runs need that."""
    requests = [request(seed=1), request(frames=5, seed=2), request(seed=3, given=4), request(seed=4, steps=1)]
    together = SevaModel(files, SHORT, CPU).sample(requests, silent)
    for asked, made in zip(requests, together, strict=True):
        (alone,) = SevaModel(files, SHORT, CPU).sample([asked], silent)
        assert np.array_equal(alone, made)


def test_pictures_are_encoded_one_by_one(model: SevaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of a request's pictures are known already must not change what is computed for the others."""
    batches = []
    embed = model._tower.embed
    monkeypatch.setattr(model._tower, "embed", lambda images: batches.append(len(images)) or embed(images))
    model.sample([request(given=3)], silent)
    assert batches == [1, 1, 1]


def test_noise_is_the_seeds_alone() -> None:
    shape = (2, 4, 8, 8)
    before = starting_noise(5, shape)
    torch.manual_seed(1)
    assert torch.equal(starting_noise(5, shape), before)
    assert not torch.equal(starting_noise(6, shape), before)


def test_a_short_request_is_filled_up_with_its_last_given_frame(files: SevaFiles) -> None:
    model = SevaModel(files, SevaSettings(precision="float32"), CPU)
    job = model._job(request(frames=6, given=2))
    assert job.sources == [*range(6), *[1] * 15]
    assert job.given.tolist() == [True, True, *[False] * 4, *[True] * 15]
    (frames,) = model.sample([request(steps=1)], silent)
    assert len(frames) == 6


def test_a_picture_is_encoded_once(model: SevaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    encode = model._codec.encode
    monkeypatch.setattr(model._codec, "encode", lambda images: seen.append(len(images)) or encode(images))
    model.sample([request(given=3)], silent)
    model.sample([request(given=3)], silent)
    model.sample([request(given=4)], silent)  # the same pictures and one more
    assert seen == [1] * 4


def test_no_given_frame_is_no_error(model: SevaModel) -> None:
    (frames,) = model.sample([request(given=0)], silent)
    assert frames.std() > 1


def test_progress_reaches_its_end_and_can_stop(model: SevaModel) -> None:
    told = []
    model.sample([request(seed=1), request(seed=2)], lambda done, total, what: told.append(done / total))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) == 6  # two steps and decoding, twice

    def stop(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        model.sample([request()], stop)


def test_what_changes_results_is_recorded() -> None:
    assert SevaSettings().shortcuts() == {}
    assert SevaSettings(precision="bfloat16", compile=False).shortcuts() == {}
    assert SevaSettings(steps=25, multistep=True).shortcuts() == {"steps": 25, "multistep": True}


def test_shortcuts_change_the_frames(files: SevaFiles, model: SevaModel) -> None:
    plain = model.sample([request()], silent)[0]
    for change in ({"steps": 3}, {"multistep": True, "steps": 3}, {"guidance_interval": (0.0, 1.0)}):
        other = SevaModel(files, dataclasses.replace(SHORT, **change), CPU).sample([request()], silent)[0]
        assert other.shape == plain.shape
        assert not np.array_equal(other, plain)


def test_no_gpu_is_an_error_that_says_so(files: SevaFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"needs a CUDA GPU.*--engine preview"):
        SevaModel(files)


def test_too_little_memory_is_said_before_anything_loads(files: SevaFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 * GIB, 8 * GIB))
    monkeypatch.setattr(module, "card_of", lambda device: ((8, 6), 8 * GIB))
    monkeypatch.setattr(module, "load_network", lambda *args: pytest.fail("was loaded"))
    with pytest.raises(UserError, match=r"too little GPU memory for SEVA: 6.0 GiB are free"):
        SevaModel(files, device=torch.device("cuda", 0))


def test_a_result_that_is_not_finite_is_an_error(model: SevaModel) -> None:
    model._network.out[2].bias.fill_(float("nan"))
    with pytest.raises(DefectError, match=r"not finite \(float32, seed 0\).*bfloat16"):
        model.sample([request()], silent)


def test_memory_that_runs_out_is_its_own_class(model: SevaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines")

    monkeypatch.setattr(module, "sample", run_out)
    with pytest.raises(OutOfMemoryError, match=r"Tried to allocate 2.00 GiB\)") as caught:
        model.sample([request()], silent)
    assert classify(caught.value) is ErrorClass.OUT_OF_MEMORY


def test_frames_that_do_not_fit_are_refused(model: SevaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_a_card(model, monkeypatch, free_gib=5, card_gib=24)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 8 * GIB)
    model.settings = SevaSettings()
    model._refuse_what_does_not_fit(21, 576 * 576)
    with pytest.raises(OutOfMemoryError, match=r"13\.0 GiB are free, 22\.4 GiB are needed for 80 frames at once"):
        model._refuse_what_does_not_fit(80, 576 * 576)


def put_on_a_card(model: SevaModel, monkeypatch: pytest.MonkeyPatch, free_gib: float, card_gib: float) -> None:
    """As if the model were on an Ampere GPU, in half precision."""
    model.device = torch.device("cuda", 0)
    model._kind = torch.float16
    monkeypatch.setattr(module, "card_of", lambda device: ((8, 6), int(card_gib * GIB)))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_gib * GIB), int(card_gib * GIB)))


@pytest.mark.parametrize(
    ("card_gib", "free_gib", "resident"),
    [(16, 11.0, False), (16, 8.0, False), (16, 11.5, True), (24, 13.0, False), (24, 10.0, False), (24, 13.5, True)],
)
def test_the_placement_covers_the_largest_sampling(
    model: SevaModel, monkeypatch: pytest.MonkeyPatch, card_gib: float, free_gib: float, resident: bool
) -> None:
    """With 8 GiB, of a large card 10, a joint sampling of 24 frames is refused when it comes; others are made."""
    put_on_a_card(model, monkeypatch, free_gib, card_gib)
    model.settings = SevaSettings(most_frames=24)
    assert model._place().resident is resident


@pytest.mark.parametrize(
    ("card_gib", "settings", "expected"),
    [
        (24, SevaSettings(), True),
        (16, SevaSettings(), False),
        (24, SevaSettings(precision="bfloat16"), False),
        (24, SevaSettings(fused=False), False),
    ],
)
def test_how_convolutions_are_computed_follows_from_the_card_alone(
    model: SevaModel, monkeypatch: pytest.MonkeyPatch, card_gib: float, settings: SevaSettings, expected: bool
) -> None:
    """Frames must not depend on who else uses the GPU."""
    model.settings = settings
    for free_gib in (1.0, card_gib - 1.0):
        put_on_a_card(model, monkeypatch, free_gib, card_gib)
        assert model._winograd is expected


def test_an_odd_size_is_refused(model: SevaModel) -> None:
    with pytest.raises(UserError, match="multiples of 64 pixels, not 72 x 72"):
        model.sample([request(size=72)], silent)
