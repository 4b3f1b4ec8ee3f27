"""The record of a batch: which series were converted to what, so that a second run does only what is missing."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["NAME", "Manifest", "digest"]

NAME: Final = ".imagedata_xr.jsonl"
"""Name of the file in the folder of a batch."""
_VERSION: Final = 1


def digest(*parts: object) -> str:
    """Return 16 letters that tell whether things are the same.

    Examples
    --------
    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", 2)
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass
class Manifest:
    """What was begun and finished in a folder: one line of JSON each, added at the end and never changed.

    A line that was cut off, as when the machine went down, is passed over: what it told of is done again. Lines hold
    UIDs, names of outputs and sizes.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._done: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, str] = {}
        try:
            text = (self.folder / NAME).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        self._needs_newline = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("version") == _VERSION and isinstance(entry.get("series"), str):
                self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        self._outputs[entry["series"]] = str(entry.get("output", ""))
        if "files" in entry:
            self._done[entry["series"]] = entry
        else:
            self._done.pop(entry["series"], None)

    def output(self, series: str) -> str | None:
        """Return the name of the output that a series has in the folder, None if it was never begun."""
        return self._outputs.get(series)

    @property
    def outputs(self) -> set[str]:
        """Names of all outputs that were begun."""
        return set(self._outputs.values())

    def is_done(self, series: str, source: str, options: str) -> bool:
        """Return whether a series was converted, from this source in this way, and all its files are still there."""
        entry = self._done.get(series)
        if entry is None or (entry.get("source"), entry.get("options")) != (source, options):
            return False
        try:
            return all((self.folder / name).stat().st_size == size for name, size in entry["files"])
        except OSError:
            return False

    def begin(self, series: str, output: str) -> None:
        """Note that an output is about to be made, so that it may be replaced if it is not finished."""
        self._add({"series": series, "output": output})

    def finish(self, series: str, output: str, source: str, options: str, files: Iterable[Path]) -> None:
        """Note that an output is complete."""
        sizes = [(os.fspath(file.relative_to(self.folder)), file.stat().st_size) for file in files]
        self._add({"series": series, "output": output, "source": source, "options": options, "files": sizes})

    def _add(self, entry: dict[str, Any]) -> None:
        entry = {"version": _VERSION, **entry}
        line = "\n" * self._needs_newline + json.dumps(entry) + "\n"
        # One write at the end of the file: two runs at once do not mix their lines.
        handle = os.open(self.folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        self._needs_newline = False
        self._take(entry)
