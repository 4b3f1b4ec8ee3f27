"""The command line of imagedata_xr: arguments only, so that help and completion need nothing but argparse.

What a command does is in `imagedata_xr.commands`, imported when it runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["main"]

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130

ALIASES = {
    "image_list": "list",
    "image_show": "show",
    "image_statistics": "stats",
    "image_calculator": "calc",
    "dicom_dump": "tags",
    "dicom_sort": "sort",
    "timeline": "timeline",
}
"""Programs of the names that imagedata had, and the command that each is."""


def main(argv: Sequence[str] | None = None, *, program: str = "image_data") -> int:
    """Return the exit status of ``image_data``, or of one of its aliases, with these arguments."""
    from image_data.parsers import COMMANDS, parser_of

    words = list(sys.argv[1:] if argv is None else argv)
    if program in ALIASES:
        command = ALIASES[program]
    elif words and words[0] in COMMANDS:
        command = words.pop(0)
    else:
        # What is no command is the first word of a conversion: a folder named "info" is ./info.
        command = "convert"
        if words and (meant := _command_meant(words[0], COMMANDS)):
            print(
                f"{program}: error: {words[0]!r} is no command: did you mean {meant!r}? To convert to a folder of that "
                f"name, write ./{words[0]}",
                file=sys.stderr,
            )
            return EXIT_USAGE
    parser = parser_of(command, program)
    _complete(parser)
    arguments = parser.parse_args(_as_values(words))
    try:
        report = import_module("imagedata_xr.commands.report")
        run: Callable[..., int] = import_module(f"imagedata_xr.commands.{COMMANDS[command].module}").run
        status: int = report.guarded(run, arguments, program)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status


def _command_meant(word: str, commands: Iterable[str]) -> str:
    """Return the command that a first word is nearly, so that it is no output; "" for an output.

    Examples
    --------
    >>> _command_meant("inof", ["info", "sort"]), _command_meant("sorted", ["info", "sort"])
    ('info', '')
    """
    from difflib import get_close_matches

    # Names of outputs with a dot, slash, number or the like are no commands that were mistyped.
    if not word.isalpha() or Path(word).exists():
        return ""
    meant = next(iter(get_close_matches(word.lower(), commands, n=1, cutoff=0.75)), "")
    # "sorted" and "converted" are where what is sorted and converted may well go to.
    return "" if word.startswith(meant) and len(word) > len(meant) + 1 else meant


def _as_values(words: list[str]) -> list[str]:
    """Return the words with those that argparse would take for options, and are none, as it takes values.

    A window below zero is joined to its option, ``--window=-600,1500``; an expression, ``-(a > b)``, gets a space.
    """
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--window" and word[:1] == "-" and word[1:2] in set("0123456789."):
            found[-1] = f"--window={word}"
        else:
            found.append(f" {word}" if word.startswith("-(") else word)
    return found


def _complete(parser: object) -> None:
    """Let argcomplete answer the shell, if it is installed and asked."""
    import os

    if "_ARGCOMPLETE" in os.environ:
        import_module("argcomplete").autocomplete(parser)


def alias() -> int:
    """Return the exit status of the alias by whose name this was started."""
    return main(program=Path(sys.argv[0]).stem)
