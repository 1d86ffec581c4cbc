"""Compiles gsplat's CUDA extension into the installed package, as the module `gsplat.csrc`.

    CUDA_HOME=... TORCH_CUDA_ARCH_LIST="8.0;8.9;9.0+PTX" python compile_gsplat.py

gsplat imports `gsplat.csrc` where it is there, and compiles at its first use where it is not, which takes minutes of
paid GPU time, nvcc in the image and a folder that can be written. The sources, the flags and the order of include
folders are those that gsplat itself would compile with. Needs no GPU.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import tempfile
from pathlib import Path

from torch.utils import cpp_extension


def main() -> None:
    """Compile and put the module beside gsplat's own."""
    specification = importlib.util.find_spec("gsplat")  # found, not imported: importing it would compile
    if specification is None or specification.origin is None:
        raise SystemExit("error: gsplat is not installed")
    package = Path(specification.origin).parent
    cuda = package / "cuda"
    sources = [*sorted((cuda / "csrc").glob("*.cu")), *sorted((cuda / "csrc").glob("*.cpp")), cuda / "ext.cpp"]
    with tempfile.TemporaryDirectory() as folder:
        cpp_extension.load(
            name="csrc",
            sources=[str(source) for source in sources],
            extra_cflags=["-O3", "-Wno-attributes"],
            extra_cuda_cflags=["-O3", "-use_fast_math"],
            extra_include_paths=[str(cuda / "include"), str(cuda / "csrc" / "third_party" / "glm")],
            build_directory=folder,
            verbose=True,
        )
        module = package / f"csrc{importlib.machinery.EXTENSION_SUFFIXES[0]}"
        shutil.copy(Path(folder) / "csrc.so", module)
    print(f"{module}: {module.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
