"""The preview engine has all it needs, videos included, and finds its compiled kernels."""

import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
from smoke_common import check_common, report, require, require_imports

from worldexplorer.preview.engine import PreviewEngine

check_common()
require_imports("cv2", "patchmatch", "worldexplorer.preview.trainer", "worldexplorer.preview.renderer")
missing = PreviewEngine(preset="smoke", seed=0).check([1, 2, 3], "single_image", "pan-in-place")
require(missing == [], f"the preview engine misses {missing}")
subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], check=True, capture_output=True)
kernels = sorted(path.name for path in Path("/opt/kernels").rglob("*.nbc"))
copied = sorted(path.name for path in Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbc"))
require(len(kernels) > 0, "no kernel was compiled while the image was built")
require(copied == kernels, "the compiled kernels are not where numba looks for them")
report("numba", "numpy", "opencv-python-headless", "google-cloud-storage", kernels=len(kernels))
