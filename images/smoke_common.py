"""What every image must hold, and words for the smoke.py of each. Both lie in the image's /opt/smoke.

    docker run --rm --read-only --tmpfs /tmp --tmpfs /scratch --cap-drop ALL --security-opt no-new-privileges \
        --network none worldexplorer-cpu:0.1.0 python /opt/smoke/smoke.py

Prints one line of JSON with the versions it found, or ends with exit code 1 and a line that says what is wrong.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def require(condition: bool, what: str) -> None:
    """End with one line where something is not as it must be."""
    if not condition:
        sys.exit(f"smoke test: {what}")


def require_imports(*names: str) -> None:
    """Import modules, each of which must come up without a GPU, a network or a writable root."""
    for name in names:
        importlib.import_module(name)


def report(*distributions: str, **facts: object) -> None:
    """Say what was found, as one line of JSON."""
    versions = {name: metadata.version(name) for name in ("worldexplorer", *distributions)}
    sys.stdout.write(json.dumps({"python": platform.python_version(), **versions, **facts}) + "\n")


def writable(folder: str) -> bool:
    """Whether a file can be made in a folder."""
    try:
        probe = Path(folder) / ".probe"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def check_common() -> None:
    """The interpreter, the user, what can be written, and that the project starts."""
    require(sys.version_info[:2] == (3, 11), f"Python 3.11 is expected, and this is {platform.python_version()}")
    require((os.getuid(), os.getgid()) == (10001, 10001), f"it runs as {os.getuid()}:{os.getgid()}")
    capabilities = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line]
    require(int(capabilities[0], 16) == 0, f"it has capabilities: {capabilities[0]}")
    for folder in ("/", "/opt", "/opt/venv", "/etc", "/home"):
        require(not writable(folder), f"{folder} can be written")
    require(os.environ["WORLDEXPLORER_SCRATCH"] == "/scratch" and writable("/scratch"), "/scratch cannot be written")
    require(importlib.util.find_spec("kfp") is None, "kfp has no place in an image")
    require_imports("worldexplorer", "worldexplorer.cli", "google.cloud.storage", "scipy", "skimage.metrics", "plyfile")
    for program in (["worldexplorer"], [sys.executable, "-m", "worldexplorer.pod"]):
        helped = subprocess.run([*program, "--help"], capture_output=True, text=True, check=False)
        require(helped.returncode == 0, f"{' '.join(program)} does not start: {helped.stderr}")


_MODULE = """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "probe"};
PyMODINIT_FUNC PyInit_probe(void) { return PyModule_Create(&definition); }
"""


def check_triton() -> None:
    """Triton's own way to compile the few lines of C that start a kernel: they are compiled, kept and loaded."""
    require(shutil.which("gcc") is not None, "there is no C compiler, which Triton needs")
    compiling = importlib.import_module("triton.runtime.build")
    try:
        compiling.compile_module_from_src(_MODULE, "probe")
    except subprocess.CalledProcessError as error:
        require(False, f"Triton's C compiler fails with exit code {error.returncode}: {' '.join(error.cmd)}")
    kept = list(Path(os.environ["TRITON_CACHE_DIR"]).rglob("probe*.so"))
    require(len(kept) == 1, f"Triton keeps what it compiles elsewhere than in {os.environ['TRITON_CACHE_DIR']}")
