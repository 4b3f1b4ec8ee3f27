"""Which command the words of a command line are of, and what runs it."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from image_data.parsers import COMMANDS, parser_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ALIASES", "escape_unwritable", "open_closed", "run"]

EXIT_USAGE = 2

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


def open_closed() -> None:
    """Let what is written to standard streams that were closed, as by ``>&-``, go nowhere.

    Their numbers would be those of the next files that are opened, and messages of C libraries would go there.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)


def escape_unwritable() -> None:
    """Let letters that the encoding of a standard stream has not be written as escapes, such as of a Japanese name.

    Encodings of Windows have few, and names of files need not be text; what was asked for would be done, and end with
    an error.
    """
    for stream in (sys.stdout, sys.stderr):
        # What passes bytes of names on as they are does so in UTF-8 alone without failing at letters.
        if stream.errors != "surrogateescape" or stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a stream of the process


def run(words: list[str], program: str) -> int:
    """Return the exit status of `program` with these arguments."""
    words = list(words)
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
    report = import_module("imagedata_xr.commands.report")
    do: Callable[..., int] = import_module(f"imagedata_xr.commands.{COMMANDS[command].module}").run
    status: int = report.guarded(do, arguments, program)
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
    if "_ARGCOMPLETE" in os.environ:
        import_module("argcomplete").autocomplete(parser)
