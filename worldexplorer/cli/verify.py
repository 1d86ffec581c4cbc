"""`worldexplorer verify`: whether every committed file is still what its record says.

Example:
    >>> run(["output/demo"])
    12 records, every file as recorded
    0
"""

from __future__ import annotations

from collections.abc import Sequence

from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser
from worldexplorer.cli.wording import plural
from worldexplorer.errors import UsageError
from worldexplorer.storage import open_storage
from worldexplorer.verify import verify_all

EXIT_DAMAGED = 1


def run(argv: Sequence[str], program: str = "worldexplorer verify") -> int:
    """Hash everything, name what is damaged; 1 where anything is."""
    parser = Parser(prog=program, description="Hash every committed file under an output folder.")
    parser.add_argument("output_base", nargs="?", metavar="OUTPUT_BASE", help="the folder a batch wrote to")
    words = parser.parse_words(argv)
    if words.output_base is None:
        raise UsageError("OUTPUT_BASE is missing", remedy=f"give it as {program} output/batch")
    storage = open_storage(words.output_base)
    console = PlainConsole()
    records = 0
    damaged: list[str] = []
    for _, changed in verify_all(storage):
        records += 1
        damaged += changed
        for path in changed:
            console.show([plain(f"damaged: {storage.uri}/{path}", "red")])
    if not records:
        raise UsageError("there is no record of a stage", where=storage.uri, remedy="name the --output_base of a run")
    counted = f"{records:,} {plural(records, 'record')}"
    if damaged:
        files = f"{len(damaged):,} damaged {plural(len(damaged), 'file')}"
        console.show([plain(f"{counted}, {files}; run the same batch command again: it heals them", "bold red")])
        return EXIT_DAMAGED
    console.show([plain(f"{counted}, every file as recorded", "green")])
    return 0
