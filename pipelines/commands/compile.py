"""`python -m pipelines compile`: write the committed packages again, or one of other settings.

Example:
    $ python -m pipelines compile
    $ python -m pipelines compile --stages 2 3 --parallelism 16 --output mine.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.commands.sending import add_build_flags, build_settings, read_stages
from pipelines.compile import compile_all, compile_pipeline
from pipelines.exit_codes import SUCCESS
from pipelines.settings import BuildSettings
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import UsageError


def run(argv: Sequence[str], program: str) -> int:
    """Compile."""
    parser = Parser(
        prog=program,
        description="Write pipeline packages. Without --output, every committed package is written again.",
    )
    parser.add_argument("--output", metavar="FILE", help="Write one package to this file (.yaml).")
    add_build_flags(parser)
    words = parser.parse_words(argv)
    settings = build_settings(words, words.profile)
    if words.output is None:
        if settings != BuildSettings() or words.stages is not None:
            raise UsageError(
                "the committed packages have the default settings and are written together",
                remedy="name a file for a package of your own with --output FILE.yaml",
            )
        written = compile_all()
    else:
        target = Path(words.output)
        if target.suffix not in (".yaml", ".yml"):
            raise UsageError(f"{words.output} does not end in .yaml", where="--output", remedy="name it FILE.yaml")
        compile_pipeline(read_stages(words.stages), target, settings)
        written = [target]
    for path in written:
        sys.stdout.write(f"{path}\n")
    return SUCCESS
