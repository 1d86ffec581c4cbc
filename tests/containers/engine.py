"""A Docker engine of the tests' own, the stand-in for the base image, and the cpu image built on it.

    engine = private_engine()                     # started once a process, stopped at its end
    engine.run(cpu_image(), "worldexplorer", "--help").stdout

The engine listens on a socket of its own and has no bridge: containers get `--network none` or `host`. What it holds
is kept in the user's cache folder, so that a second run of the tests builds nothing again; where another run has that
folder, this one starts from nothing. The base image of the Dockerfiles cannot be pulled everywhere, so one with the
same programs is made from the machine's own Debian packages.

A folder of tests takes the fixtures in its conftest.py: `from containers.engine import cpu_image, docker_engine`.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from images.build import Origin, build
from images.catalog import project_version
from images.docker import HARDENED, Docker

_PATIENCE_SECONDS = 60.0
_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_OLD = "168h"
"""Layers that no build has used for a week are dropped from the kept ones."""
_HEADERS = """cd "$1/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download libpython3.11-dev \
    && dpkg-deb --extract libpython3.11-dev_*.deb headers && cp -a headers/usr/include/. "$1/usr/include/" \
    && rm -r headers libpython3.11-dev_*.deb "$1"/var/cache/apt/*.bin"""
_KEEP_NO_PACKAGES = (
    'Binary::apt-get::APT::Keep-Downloaded-Packages "false"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";'
)
"""The real base image has Python's headers too, and keeps no packages."""


def not_run(reason: str) -> None:
    """Skip the test, to be listed as NOT RUN, or fail it where everything is required."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"part not found: {reason}", pytrace=False)
    pytest.skip(f"part not found: {reason}")


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    host: str
    """For `DOCKER_HOST`."""

    @property
    def environment(self) -> dict[str, str]:
        """This process's variables and the engine's; the builder that every engine has."""
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}

    @property
    def client(self) -> Docker:
        """The project's own way to talk to it; builds reach the network through the machine's."""
        return Docker("host", {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"})

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A docker command."""
        done = subprocess.run(["docker", *words], env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def run(
        self, image: str, *words: str, options: Sequence[str] = (), network: str = "none", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A command in a hardened container that is gone afterwards."""
        return self.docker("run", "--rm", "--network", network, *HARDENED, *options, image, *words, check=check)


@cache
def private_engine() -> Engine:
    """The engine of this process."""
    if os.geteuid() != 0:
        not_run("docker (dockerd needs root)")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worldexplorer-tests" / "docker"
    folder = Path(tempfile.mkdtemp(prefix="worldexplorer-docker-"))
    lock = _lock(kept)
    data = folder / "data" if lock is None else kept
    command = ["setpriv", "--pdeathsig", "TERM"]  # it ends with this process, however that ends
    command += ["dockerd", "--data-root", str(data), "--exec-root", str(folder / "exec")]
    command += ["--pidfile", str(folder / "docker.pid"), "--host", f"unix://{folder / 'docker.sock'}"]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),  # the engine holds the lock as long as it lives
        )
    engine = Engine(f"unix://{folder / 'docker.sock'}")
    atexit.register(_stop, engine, process, folder, data)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while engine.docker("version", check=False).returncode != 0:
        said = (folder / "log").read_text(errors="replace")
        assert process.poll() is None, f"dockerd ended with {process.returncode}:\n{said[-3000:]}"
        assert time.monotonic() < deadline, f"dockerd does not answer:\n{said[-3000:]}"
        time.sleep(0.1)
    return engine


def _lock(folder: Path) -> int | None:
    """A lock on the folder, as a file that is held open; None where another engine has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _stop(engine: Engine, process: subprocess.Popen[bytes], folder: Path, data: Path) -> None:
    engine.docker("image", "prune", "--force", "--filter", f"until={_OLD}", check=False)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for mounted in (data, folder / "exec" / "netns" / "default"):
        subprocess.run(["umount", str(mounted)], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------ images


@cache
def base_image() -> str:
    """The stand-in for the Dockerfiles' base image: Debian with Python 3.11, pip and this machine's certificates."""
    engine = private_engine()
    recipe = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,python3-pip,ca-certificates"),
        f'--customize-hook=mkdir -p "$1{_CERTIFICATES}"',
        *(f'--customize-hook=cp "{path}" "$1{_CERTIFICATES}/"' for path in sorted(_CERTIFICATES.glob("*.crt"))),
        '--customize-hook=chroot "$1" update-ca-certificates',
        '--customize-hook=printf "[global]\\ncert = /etc/ssl/certs/ca-certificates.crt\\n" > "$1/etc/pip.conf"',
        '--customize-hook=ln -s python3 "$1/usr/bin/python"',
        f"--customize-hook=printf '{_KEEP_NO_PACKAGES}' > \"$1/etc/apt/apt.conf.d/keep-no-packages\"",
        f"--customize-hook={_HEADERS}",
        '--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        "bookworm",
    ]
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    variables = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    variables += [f"{name}={bundle}" for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    digest = hashlib.sha256(repr((recipe, variables)).encode())
    for path in sorted(_CERTIFICATES.glob("*.crt")):
        digest.update(path.read_bytes())
    image = f"worldexplorer-test-base:{digest.hexdigest()[:16]}"
    if engine.docker("image", "inspect", image, check=False).returncode == 0:
        return image
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree.tar"
        made = subprocess.run([*recipe, str(tree), _mirror()], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[-3000:]
        changes = [word for variable in variables for word in ("--change", f"ENV {variable}")]
        engine.docker("import", *changes, "--change", 'CMD ["python3"]', str(tree), image)
    return image


def _mirror() -> str:
    """The package mirror that this machine itself takes bookworm from."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for text in (path.read_text() for path in files if path.suffix in (".list", ".sources") and path.is_file()):
        for paragraph in text.split("\n\n"):
            fields = dict(line.partition(":")[::2] for line in paragraph.splitlines() if not line.startswith("#"))
            if "bookworm" in fields.get("Suites", "").split() and "main" in fields.get("Components", "").split():
                return fields["URIs"].split()[0]
        for line in text.splitlines():
            kind, *words = [word for word in line.split() if not word.startswith(("[", "signed-by="))] or [""]
            if kind == "deb" and words[1:2] == ["bookworm"] and "main" in words[2:]:
                return words[0]
    raise AssertionError("none of the machine's package sources has Debian 12 (bookworm)")


@cache
def built_cpu_image() -> str:
    """The cpu image, built from its Dockerfile on the stand-in, its smoke test passed."""
    proxies = {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
    origin = Origin(project_version(), "tests", "tests")
    return build(private_engine().client, "cpu", origin, {"BASE_IMAGE": base_image(), **proxies})


@pytest.fixture(scope="session")
def docker_engine() -> Engine:
    """A private engine; the test is marked `requires_part("docker")`."""
    return private_engine()


@pytest.fixture(scope="session")
def cpu_image(docker_engine: Engine) -> str:
    """The tag of the cpu image; the test is marked `requires_part("docker")` and `requires_part("mmdebstrap")`."""
    return built_cpu_image()
