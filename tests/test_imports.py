"""What importing the library costs and brings; the layers themselves are import-linter's (see pyproject.toml)."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "diffusers", "transformers", "gsplat", "kfp")


def modules_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_library_loads_no_network_and_no_pipeline_package():
    assert not modules_after("import worldexplorer.cli.batch").intersection(HEAVY)


def test_the_program_itself_needs_the_standard_library_only():
    loaded = {name.split(".")[0] for name in modules_after("import worldexplorer.cli")}
    assert loaded <= set(sys.stdlib_module_names) | set(sys.builtin_module_names) | modules_after("") | {
        "worldexplorer"
    }


def test_reading_the_words_of_a_command_loads_no_numeric_library():
    assert not modules_after("import worldexplorer.cli.command, worldexplorer.cli.arguments").intersection(
        {"numpy", "scipy", "skimage", "PIL"}
    )
