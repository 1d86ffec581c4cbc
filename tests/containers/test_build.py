"""The build program against a docker program that writes down what it is asked."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path

import pytest

from images.build import main
from images.catalog import LOCK, NAMES, ImageLock, project_version, repository
from images.docker import HARDENED

VERSION = project_version()
DIGEST = "sha256:" + "ab" * 32

FAKE = """#!{python} -IS
import json, sys
from pathlib import Path
folder = Path({folder!r})
words = sys.argv[1:]
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps(words) + "\\n")
failing = folder / "failing"
if failing.exists() and all(word in words for word in failing.read_text().split()):
    sys.exit("it broke")
if words[0] == "run":
    print('{{"python": "3.11.2"}}')
if words[:2] == ["image", "inspect"]:
    image = words[-1]
    answer = json.dumps([image.rpartition(":")[0] + "@{digest}"]) if "RepoDigests" in words[3] else "1234567890"
    print(answer)
"""


class FakeDocker:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def asked(self) -> list[list[str]]:
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def fail_where(self, *words: str) -> None:
        (self.folder / "failing").write_text(" ".join(words))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(FAKE.format(python=sys.executable, folder=str(tmp_path), digest=DIGEST))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return FakeDocker(tmp_path)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return Path(shutil.copy(LOCK, tmp_path / "lock.json"))


def test_an_image_is_built_and_tried_hardened(docker: FakeDocker, lock: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cpu", "--lock", str(lock), "--network", "host", "--build_arg", "A=b=c"]) == 0
    built, tried, *_ = docker.asked
    assert built[:3] == ["build", "--network", "host"]
    assert f"worldexplorer-cpu:{VERSION}" in built
    arguments = {built[i + 1] for i, word in enumerate(built) if word == "--build-arg"}
    assert {"BASE_IMAGE=python:3.11-slim-bookworm", f"VERSION={VERSION}", "A=b=c"} < arguments
    assert tried[:2] == ["run", "--rm"]
    assert list(HARDENED) == [word for word in tried if word in HARDENED]
    assert tried[tried.index("--network") + 1] == "none"
    assert capsys.readouterr().out.startswith(f"worldexplorer-cpu:{VERSION}: 1.23 GB, built in ")
    assert lock.read_text() == LOCK.read_text()  # nothing was pushed


def test_every_image_is_built_where_none_is_named(docker: FakeDocker, lock: Path):
    assert main(["--lock", str(lock)]) == 0
    files = [words[words.index("--file") + 1] for words in docker.asked if words[0] == "build"]
    assert [Path(file).parent.name for file in files] == list(NAMES)


def test_what_is_pushed_is_pinned(docker: FakeDocker, lock: Path):
    assert main(["cpu", "splat", "--lock", str(lock), "--registry", "registry.example:5000/worlds/"]) == 0
    image = f"registry.example:5000/worlds/worldexplorer-cpu:{VERSION}"
    assert ["tag", f"worldexplorer-cpu:{VERSION}", image] in docker.asked
    assert ["push", image] in docker.asked
    pinned = ImageLock.read(lock)
    assert pinned.registry == "registry.example:5000/worlds"
    assert pinned.digests == {repository(name): DIGEST if name in ("cpu", "splat") else None for name in NAMES}


def test_an_image_that_fails_its_smoke_test_is_not_pushed(
    docker: FakeDocker, lock: Path, capsys: pytest.CaptureFixture[str]
):
    docker.fail_where("run", f"worldexplorer-splat:{VERSION}")
    assert main(["cpu", "splat", "--lock", str(lock), "--registry", "registry.example"]) == 1
    assert "smoke test failed with exit code 1: it broke" in capsys.readouterr().err
    assert [words[1] for words in docker.asked if words[0] == "push"] == [
        f"registry.example/worldexplorer-cpu:{VERSION}"
    ]
    assert ImageLock.read(lock).digests["worldexplorer-cpu"] == DIGEST  # what was pushed before stays pinned


@pytest.mark.parametrize("step", ["build", "push"])
def test_a_step_that_fails_ends_it(docker: FakeDocker, lock: Path, step: str, capsys: pytest.CaptureFixture[str]):
    docker.fail_where(step)
    assert main(["cpu", "--lock", str(lock), "--registry", "registry.example"]) == 1
    assert "error: the image could not be" in capsys.readouterr().err
    assert ImageLock.read(lock).digests["worldexplorer-cpu"] is None


def test_base_digest_is_looked_up_and_used(docker: FakeDocker, lock: Path):
    assert main(["cpu", "--lock", str(lock), "--pin_base"]) == 0
    assert docker.asked[0] == ["pull", "python:3.11-slim-bookworm"]
    assert ImageLock.read(lock).base_digest == DIGEST
    built = next(words for words in docker.asked if words[0] == "build")
    assert f"BASE_IMAGE=python:3.11-slim-bookworm@{DIGEST}" in built


def test_release_lists_everything_that_is_not_pinned(
    docker: FakeDocker, lock: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["cpu", "--release", "--lock", str(lock), "--base_image", "other"]) == 2
    said = capsys.readouterr().err
    for part in (
        "images.lock.json: base.digest",
        "scaffold/models.lock: models[0].revision",
        "trajectory/models.lock: models[0].files.modelv1.1.safetensors",
        "--registry",
        "--source",
        "--base_image",
        "a release is made of all images",
        "What to do: ",
    ):
        assert part in said
    assert docker.asked == []


@pytest.mark.parametrize("words", [["gpu"], ["--build_arg", "A"], ["--release"], ["--regsitry", "x"]])
def test_wrong_words_are_refused(docker: FakeDocker, words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert "What to do" in capsys.readouterr().err
    assert docker.asked == []


def test_without_docker_it_says_so(lock: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["cpu", "--lock", str(lock)]) == 2
    assert "there is no docker program" in capsys.readouterr().err
