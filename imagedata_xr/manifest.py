"""The record of a batch: which series were converted to what, so that a second run does only what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.errors import BatchError
from imagedata_xr.lock import no_file
from imagedata_xr.regular import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["NAME", "Manifest", "digest", "files_below"]

NAME: Final = ".imagedata_xr.jsonl"
"""Name of the file in the folder of a batch."""
_VERSION: Final = 1
_SHORT: Final = 8
"""Letters of the digest of a frame: of two sets of them one is not taken for part of the other."""


def digest(*parts: object) -> str:
    """Return 16 letters that tell whether things are the same.

    Examples
    --------
    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", 2)
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def files_below(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder, relative to it; a link is one of them, and is not followed.

    Raises
    ------
    OSError
        If a folder cannot be listed.
    """
    for place, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            yield os.fspath(Path(place, name).relative_to(folder))


def _raise(err: OSError) -> None:
    raise err


@dataclass
class Manifest:
    """What was begun and finished in a folder: one line of JSON each, added at the end and never changed.

    A line that was cut off, as when the machine went down, is passed over: what it told of is done again. Lines hold
    UIDs, digests, and names and sizes of outputs.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._outputs: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        """The series that has an output, by its name in small letters; so in the next two."""
        self._began: dict[str, str] = {}
        """The series that was the last to write an output."""
        self._written: dict[str, list[dict[str, Any]]] = {}
        """Entries of which the files may lie in an output."""
        self._finished: dict[str, dict[str, Any]] = {}
        """By series, what was the last to be finished in its output."""
        self._latest: dict[str, dict[str, Any]] = {}
        """By series, what was finished, or begun since."""
        self._earlier: dict[str, dict[str, Any]] = {}
        """What was the latest before something was begun."""
        path = self.folder / NAME
        self._is_there = True
        try:
            with open_regular(path) as file:
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            text, self._is_there = "", False
        except OSError as err:
            if path.is_file():
                raise
            raise no_file(path) from err
        self._needs_newline = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if _is_entry(entry):
                self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        series, output = entry["series"], entry["output"]
        place = output.lower()
        owner = self._owners.setdefault(place, series)
        if series != owner:
            # Of a version that let two runs write at once: what lies there may be of either.
            self._began[place] = series
            self._finished.pop(owner, None)
            self._written.setdefault(place, []).append(entry)
            return
        self._outputs[series] = output
        before = self._latest.pop(series, {})
        if entry.get("failed"):
            if earlier := self._earlier.pop(series, {}):
                self._latest[series] = earlier
        elif "files" in entry:
            if before.get("source") == entry.get("source"):
                entry = {**before, **entry}
            self._latest[series] = entry
            if self._began.get(place) == series:
                self._finished[series] = entry
                self._written[place] = [entry]
            else:
                self._written.setdefault(place, []).append(entry)
        else:
            self._latest[series] = entry
            self._earlier[series] = before
            self._began[place] = series

    def output(self, series: str) -> str | None:
        """Return the name of the output that a series has in the folder, None if it was never begun."""
        return self._outputs.get(series)

    @property
    def outputs(self) -> set[str]:
        """Names of all outputs that were begun."""
        return set(self._outputs.values())

    def files(self, output: str) -> set[str]:
        """Return the files that runs have left in an output, by their names in it."""
        entries = self._written.get(output.lower(), ())
        return {name[len(output) + 1 :] for entry in entries for name, _ in entry.get("files", ())}

    def is_done(self, series: str, source: str, options: str) -> bool:
        """Return whether a series was converted, from this source in this way, and all its files are still there."""
        entry = self._finished.get(series)
        if entry is None or entry is not self._latest.get(series):
            return False
        if (entry.get("source"), entry.get("options")) != (source, options):
            return False
        try:
            there = [((self.folder / name).stat(), size) for name, size in entry["files"]]
        except OSError:
            return False
        # A folder's size says nothing of what is in it.
        return all(stat.S_ISREG(status.st_mode) and status.st_size == size for status, size in there)

    def objection(self, series: str, source: str, options: str, frames: Iterable[str]) -> str:
        """Return why what lies at the output of a series may not be replaced by another conversion, "" if it may."""
        entry = self._latest.get(series)
        if entry is None:
            return "is not of an earlier run"
        if entry.get("options", options) != options:
            return "was made with other settings"
        # Earlier versions noted no frames, and replaced what they had written.
        if "frames" in entry and entry.get("source") != source and not _is_part(entry["frames"], frames):
            return "was made of other files"
        return ""

    def begin(self, series: str, output: str, source: str, options: str, frames: Iterable[str]) -> None:
        """Note that an output is about to be made, so that it may be replaced if it is not finished."""
        how = {"source": source, "options": options, "frames": "".join(sorted(map(_short, frames)))}
        self._add({"series": series, "output": output, **how})

    def finish(self, series: str, files: Iterable[str]) -> None:
        """Note that the output that was begun is complete, with files of these names in it."""
        begun = self._latest[series]
        names = [os.fspath(Path(begun["output"], file)) for file in files]
        sizes = [(name, (self.folder / name).stat().st_size) for name in names]
        self._add({name: begun[name] for name in ("series", "output", "source", "options")} | {"files": sizes})

    def fail(self, series: str) -> None:
        """Note that the output that was begun was not made: what lies there is what was there before."""
        self._add({"series": series, "output": self._outputs[series], "failed": True})

    def _add(self, entry: dict[str, Any]) -> None:
        entry = {"version": _VERSION, **entry}
        left = ("\n" * self._needs_newline + json.dumps(entry) + "\n").encode()
        # A record that is gone is not begun anew: of what was done before it would tell nothing.
        make = 0 if self._is_there else os.O_CREAT
        try:
            handle = os.open(self.folder / NAME, os.O_WRONLY | os.O_APPEND | make, 0o666)
        except FileNotFoundError as err:
            msg = (
                f"{self.folder / NAME} was removed or moved while outputs were written: put it, or all of the folder, "
                "back, or convert to another folder"
            )
            raise BatchError(msg) from err
        self._is_there = self._needs_newline = True
        try:
            # Of a disk that gets full a part is written without an error, and the rest then raises.
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except OSError as err:
            raise OSError(err.errno, err.strerror, os.fspath(self.folder / NAME)) from err
        finally:
            os.close(handle)
        self._needs_newline = False
        self._take(entry)


def _is_entry(entry: Any) -> bool:
    """Return whether a line tells of an output in the folder itself, which is all that may be replaced."""
    if not isinstance(entry, dict) or entry.get("version") != _VERSION or not isinstance(entry.get("series"), str):
        return False
    output = entry.get("output")
    return isinstance(output, str) and output not in ("", ".", "..") and Path(output).name == output


def _short(frame: str) -> str:
    return digest(frame)[:_SHORT]


def _is_part(noted: str, frames: Iterable[str]) -> bool:
    """Return whether all frames that an entry notes are among some."""
    return {noted[k : k + _SHORT] for k in range(0, len(noted), _SHORT)} <= set(map(_short, frames))
