"""Outputs of a batch that take the place of earlier ones, and what killed runs have left beside them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagedata_xr.files import shortened
from imagedata_xr.manifest import files_below
from imagedata_xr.plan import ADVICE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from imagedata_xr.plan import Task

__all__ = ["instead_of", "tidy"]

_LEFT: Final = re.compile(
    r"\.(.+)\.[0-9a-f]{12}\.(new|old)|\.\.(.+)\.[0-9a-f]{12}\.new\.[0-9a-f]{12}\.part|\.(.+)\.[0-9]+\.made"
)
"""Hidden names beside an output: see `instead_of`, and what a writer makes its folder in."""


@contextmanager
def instead_of(target: Path, replaceable: Collection[str], *, is_free: bool) -> Iterator[Path]:
    """Give a path that takes the place of an output of an earlier run when the block ends well.

    A worker that is killed after that does not tell of it, and its series is converted again. So a file whose name says
    which folder it has made lies beside it until the run ends: else nobody could tell that from what others put there.

    Parameters
    ----------
    target : Path
        The output; nothing need be there.
    replaceable : collection of str
        Names of files in it that earlier runs have written.
    is_free : bool
        Whether nothing was there when the run began: then only what it has itself put there may go.

    Raises
    ------
    FileExistsError
        If the old output has a file that is neither one of `replaceable` nor in the new one.
    """
    place = _resolved(target)
    new = place.with_name(f".{shortened(place.name)}.{secrets.token_hex(6)}.new")
    old = new.with_suffix(".old")
    try:
        yield new
        _made(place, new).touch()
        if not place.exists():
            new.rename(place)
            return
        is_of_others = is_free and not _made(place, place).exists()
        may_go = set() if is_of_others else {*replaceable, *files_below(new)}
        _check_replaceable(place, may_go, target)
        place.rename(old)
        # Looked at again under a name that nobody else writes to: what came in meanwhile is not to be lost.
        _check_replaceable(old, may_go, target)
        new.rename(place)
    except BaseException:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _made(place: Path, made: Path) -> Path:
    """Return the file that says that a folder at an output, or soon there, is of this run."""
    return place.with_name(f".{shortened(place.name)}.{made.stat().st_ino}.made")


def _resolved(target: Path) -> Path:
    """Return where an output is written: a symbolic link stays one, the folder it leads to is replaced."""
    return Path(os.path.realpath(target))


def _check_replaceable(place: Path, may_go: Collection[str], target: Path) -> None:
    """Raise FileExistsError if an output has a file that no run has left in it."""
    others = sorted(set(files_below(place)) - set(may_go))
    if others:
        msg = f"{target} holds {others[0]}, which is not of an earlier run: {ADVICE}"
        raise FileExistsError(msg)


def tidy(tasks: list[Task], folder: Path) -> None:
    """Remove what killed workers have left beside outputs; an output that was being replaced is put back.

    Parameters
    ----------
    tasks : list of Task
        Those whose outputs are looked at; nobody may be doing one of them.
    folder : Path
        Where the outputs lie.
    """
    places = {_resolved(folder / task.output): task for task in tasks}
    named = {(place.parent, shortened(place.name)): place for place in places}
    for parent in {place.parent for place in places}:
        # What cannot be listed or removed is no reason not to go on: whoever writes there will say so.
        with suppress(OSError):
            for left in sorted(parent.iterdir()):
                found = _LEFT.fullmatch(left.name)
                place = named.get((parent, found[1] or found[3] or found[4])) if found else None
                if place is None or found is None:
                    continue
                if found[4]:
                    left.unlink(missing_ok=True)
                elif found[2] != "old":
                    shutil.rmtree(left, ignore_errors=True)
                elif not place.exists():
                    left.rename(place)
                elif places[place].replaceable.issuperset(files_below(left)):
                    shutil.rmtree(left, ignore_errors=True)
