"""`worldexplorer render`: from the words to the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_engine import SIZE, TinyEngine, box_views

from worldexplorer.cli import main, render, renderers
from worldexplorer.cli.render import CameraPath, camera_path, rendered
from worldexplorer.cli.renderers import choose_renderer
from worldexplorer.errors import UsageError, UserError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import write_gaussians
from worldexplorer.geometry.transforms import Transforms, write_transforms
from worldexplorer.pictures import read_pictures
from worldexplorer.preview.trainer import PreviewTrainer
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.splat.camera_paths import published_outings, scene_outings, turn, walk
from worldexplorer.splat.export import VIEWER_ROTATION
from worldexplorer.splat.renders import depth_pictures, depth_range


def a_ball_on_the(side: str) -> Gaussians:
    """A large coloured blob ahead, to the left or above, before nothing."""
    place = {"left": (-1.0, 0.0, -4.0), "top": (0.0, 1.0, -4.0)}[side]
    return Gaussians(
        means=np.array([place, (0.0, 0.0, 50.0)], dtype=np.float32),
        log_scales=np.full((2, 3), np.log(0.3), dtype=np.float32),
        quaternions=np.array([[1, 0, 0, 0]] * 2, dtype=np.float32),
        opacity_logits=np.full(2, 5.0, dtype=np.float32),
        sh=np.full((2, 1, 3), 1.5, dtype=np.float32),
    )


def a_scene(folder: Path, width: int = 32, height: int = 32, views: int = 8) -> Path:
    lenses = np.tile(normalised_intrinsics(), (views, 1, 1))
    lenses[:, 1, 1] *= width / height
    paths = tuple(f"input/{view:03d}.png" for view in range(views))
    folder.mkdir(parents=True, exist_ok=True)
    write_transforms(folder / "transforms.json", Transforms(paths, scaffold_poses()[:views], lenses, width, height))
    return folder / "transforms.json"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyEngine:
    """In place of both engines; what it is asked for it shows from inside its box."""
    engine = TinyEngine()
    monkeypatch.setattr(renderers, "load_engine", lambda run: engine)
    return engine


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    write_gaussians(tmp_path / "world.ply", a_ball_on_the("top"))
    return tmp_path / "world.ply"


def shown_error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").rstrip("\n")


# --- what is rendered


def test_a_folder_of_pictures_along_a_scene(
    tmp_path: Path, ply: Path, tiny: TinyEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = a_scene(tmp_path / "scene")
    out = tmp_path / "pictures"
    words = ["render", "--ply", str(ply), "--path", str(scene), "--out", str(out), "--size", str(SIZE)]
    assert main([*words, "--renderer", "cpu"]) == 0
    lenses = np.tile(normalised_intrinsics(), (8, 1, 1))
    found = read_pictures(sorted(out.iterdir()))
    # The lens comes from a file that rounds it.
    assert np.abs(found.astype(int) - box_views(scaffold_poses(), lenses)).max() <= 1
    said = capsys.readouterr().out
    assert f"cpu renderer, 2 Gaussians, 8 frames of {SIZE} x {SIZE}, along the cameras of" in said
    assert str(out) in said


def test_a_video_is_named_after_its_path(
    tmp_path: Path, ply: Path, tiny: TinyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["render", "--ply", str(ply), "--size", "16", "--fps", "12"]) == 0
    assert main(["render", "--ply", str(ply), "--size", "16", "--depth"]) == 0
    assert main(["render", "--ply", str(ply), "--size", "16", "--path", "walk"]) == 0
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"turntable.mp4", "turntable_depth.mp4", "walk.mp4"}


@pytest.mark.parametrize(("width", "height"), [(48, 32), (32, 48), (32, 32)])
def test_a_picture_that_is_no_square_is_the_middle_of_one(width: int, height: int) -> None:
    """The preview engine's own camera of that shape sees the same."""
    from worldexplorer.preview.parameters import pack
    from worldexplorer.preview.projection import camera_of
    from worldexplorer.preview.rasterizer import render as rasterise
    from worldexplorer.preview.trainer_settings import TrainerSettings

    lens = normalised_intrinsics()
    lens[1, 1] *= width / height
    lens[0, 2], lens[1, 2] = 0.45, 0.6
    path = CameraPath(np.eye(4)[None], lens[None], width / height, "")
    world = a_ball_on_the("top")
    (found,) = rendered(PreviewTrainer(TrainerSettings(), threads=1), world, path, 48 if width != height else 32)
    image = rasterise(pack(world, np.zeros(3)), camera_of(np.eye(4), lens, width, height, 0.02)).image
    expected = np.clip(image.transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
    assert found.shape == (height, width, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert found.max() > 200


@pytest.mark.parametrize(
    ("flags", "turned", "comments"),
    [
        ([], np.eye(3), []),
        ([], VIEWER_ROTATION, ["frame: y down, for viewers of the INRIA convention"]),
        (["--up", "y-down"], VIEWER_ROTATION, []),
        (["--up", "z-up"], np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), []),
    ],
)
def test_every_world_is_shown_upright(
    tmp_path: Path, flags: list[str], turned: np.ndarray, comments: list[str]
) -> None:
    """A ball above the middle stays above it, whichever way is up in the file."""
    write_gaussians(tmp_path / "a.ply", a_ball_on_the("top").rotated(turned), comments)
    scene = a_scene(tmp_path / "scene", views=1)
    words = ["--ply", str(tmp_path / "a.ply"), "--path", str(scene), "--out", str(tmp_path / "out"), "--size", "32"]
    assert main(["render", *words, *flags, "--renderer", "cpu"]) == 0
    (picture,) = read_pictures(sorted((tmp_path / "out").iterdir()))
    rows = picture.astype(float).sum(axis=(1, 2))
    columns = picture.astype(float).sum(axis=(0, 2))
    assert (rows * np.arange(32)).sum() / rows.sum() < 12
    assert (columns * np.arange(32)).sum() / columns.sum() == pytest.approx(15.5, abs=0.5)


def test_depths_of_a_path_share_one_range() -> None:
    engine = TinyEngine()
    path = CameraPath(turn(9), np.tile(normalised_intrinsics(), (9, 1, 1)), 1.0, "")
    depths = engine.render_depth(None, path.c2w, path.intrinsics, 16)  # type: ignore[arg-type]
    samples = [0, 1, 2, 3, 5, 6, 7, 8]
    found = list(rendered(engine, None, path, 16, depth=True))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, depth_pictures(depths, depth_range(depths[samples])))


# --- paths


def test_the_paths_by_name(tmp_path: Path) -> None:
    lonely = tmp_path / "world.ply"
    np.testing.assert_array_equal(camera_path("turntable", lonely).c2w, turn())
    found = camera_path("walk", lonely)
    np.testing.assert_array_equal(found.c2w, walk(published_outings()))
    assert "full length" in found.what


def test_a_walk_through_a_jobs_world_follows_its_scene(tmp_path: Path) -> None:
    scene = a_scene(tmp_path / "job" / "scenes" / "index_0000_3.0" / "img2trajvid")
    (tmp_path / "job" / "splat").mkdir()
    found = camera_path("walk", tmp_path / "job" / "splat" / "splat.ply")
    from worldexplorer.geometry.transforms import read_transforms

    np.testing.assert_array_equal(found.c2w, walk(scene_outings(read_transforms(scene))))
    assert str(scene) in found.what


def test_a_file_gives_its_cameras_and_their_shape(tmp_path: Path) -> None:
    found = camera_path(str(a_scene(tmp_path, width=48, height=32)), tmp_path / "a.ply")
    np.testing.assert_allclose(found.c2w, scaffold_poses(), atol=1e-11)
    assert found.aspect == 1.5


# --- which renderer


class Unable(TinyEngine):
    def check(self, stages, scaffold_method, traj_prior):  # type: ignore[no-untyped-def]
        return ["something is missing"]


@pytest.mark.parametrize(
    ("gpu", "asked", "taken"),
    [(True, "auto", "gsplat"), (False, "auto", "cpu"), (True, "cpu", "cpu"), (True, "gsplat", "gsplat")],
)
def test_the_gpu_is_taken_where_it_can_be(monkeypatch: pytest.MonkeyPatch, gpu: bool, asked: str, taken: str) -> None:
    engines = {"preview": TinyEngine(), "full": TinyEngine() if gpu else Unable()}
    monkeypatch.setattr(renderers, "load_engine", lambda run: engines[run.batch.engine])
    name, trainer = choose_renderer(asked)
    assert name == taken
    assert trainer is engines["preview" if taken == "cpu" else "full"]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("gsplat", r"the gsplat renderer cannot run here: something is missing.*--renderer cpu"),
        ("cpu", "the cpu renderer cannot run here: something is missing"),
        ("auto", "the cpu renderer cannot run here: something is missing"),
    ],
)
def test_a_renderer_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch, asked: str, text: str) -> None:
    monkeypatch.setattr(renderers, "load_engine", lambda run: Unable())
    with pytest.raises(UserError, match=text):
        choose_renderer(asked)


class DrawsEitherWay(TinyEngine):
    """Notes how it is to draw."""

    asked: list[bool]

    def drawing(self, *, antialiased: bool) -> TinyEngine:
        self.asked.append(antialiased)
        return self


@pytest.mark.parametrize("antialiased", [False, True])
def test_a_file_is_drawn_as_its_header_says_or_what_differs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, antialiased: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    full = DrawsEitherWay()
    full.asked = []
    engines = {"preview": TinyEngine(), "full": full}
    monkeypatch.setattr(renderers, "load_engine", lambda run: engines[run.batch.engine])
    write_gaussians(tmp_path / "a.ply", a_ball_on_the("top"), ["SplatRenderMode: mip"] if antialiased else [])
    words = ["--ply", str(tmp_path / "a.ply"), "--path", str(a_scene(tmp_path / "scene", views=1)), "--size", "16"]
    for renderer, told in (("cpu", antialiased), ("gsplat", False)):
        assert main(["render", *words, "--out", str(tmp_path / renderer), "--renderer", renderer]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert ("small Gaussians look too strong" in said) == told
    assert full.asked == [antialiased]


# --- wrong words


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "--ply is missing"),
        (["--path", "wlak"], "perhaps walk was meant"),
        (["--path", "nowhere.json"], "nowhere.json"),
        (["--size", "8"], "give a number from 16 to 4096"),
        (["--size", "\u0663\u0662"], "give a number from 16 to 4096"),
        (["--fps", "1.5"], "give a number from 1 to 240"),
        (["--renderer", "gpu"], "choose from auto, cpu, gsplat"),
        (["--up", "x"], "choose from auto, y-up, y-down, z-up"),
        (["--out", "a.avi"], "name a .mp4 file, or a folder"),
        (["--out", "none/such/a.mp4"], "is no folder"),
        (["--ply", "none.ply", "--out", "a"], "none.ply"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path,
    ply: Path,
    tiny: TinyEngine,
    words: list[str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words if not words or "--ply" in words else ["--ply", str(ply), *words]
    assert main(["render", *given]) == 2
    assert text in shown_error(capsys)
    assert list(tmp_path.iterdir()) == [ply]


@pytest.mark.parametrize("flag", ["--ply", "--path"])
@pytest.mark.parametrize("content", ["ply\nelement chunk 3\n", "{}", "NGSP"])
def test_a_file_of_another_kind_says_which_is_wanted(
    tmp_path: Path, ply: Path, tiny: TinyEngine, flag: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(content)
    words = {"--ply": str(ply)} | {flag: str(other)}
    given = [word for pair in words.items() for word in pair]
    assert main(["render", *given, "--out", str(tmp_path / "a.mp4")]) == 2
    wanted = {"--ply": "name a PLY file in the INRIA layout", "--path": "name a scene's transforms.json"}
    assert wanted[flag] in shown_error(capsys)
    assert not (tmp_path / "a.mp4").exists()


def test_nothing_that_exists_is_replaced(tmp_path: Path, ply: Path, tiny: TinyEngine) -> None:
    (tmp_path / "turntable.mp4").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").write_text("mine")
    for out in ("turntable.mp4", "full", "world.ply"):
        with pytest.raises(UsageError, match=r"exists|world\.ply"):
            render.run(["--ply", str(ply), "--size", "16", "--out", str(tmp_path / out)])
    assert (tmp_path / "turntable.mp4").read_text() == "mine"


def test_a_file_of_no_gaussians_is_refused(
    tmp_path: Path, tiny: TinyEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    world = a_ball_on_the("top")
    arrays = {name: getattr(world, name)[:0] for name in world.__dataclass_fields__}
    write_gaussians(tmp_path / "a.ply", Gaussians(**arrays))
    assert main(["render", "--ply", str(tmp_path / "a.ply"), "--out", str(tmp_path / "a.mp4")]) == 2
    assert "holds no Gaussians" in shown_error(capsys)
