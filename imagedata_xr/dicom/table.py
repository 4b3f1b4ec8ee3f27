"""The frames of one series: element values, file, offset and length, column by column."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Self

import numpy as np

from imagedata_xr.elements import Raw, Value, decode, keyword, tag
from imagedata_xr.errors import UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.expand import Frame
    from imagedata_xr.dicom.stored import Tile
    from imagedata_xr.dicom.walk import Head

__all__ = ["FrameTable", "TableBuilder", "encodings_of", "joined"]

CHARACTER_SET = tag("SpecificCharacterSet")
LEAVE_OUT = "Get it again, or leave it out with errors='warn'"


@dataclass(slots=True)
class FrameTable:
    """The frames of one series, column by column.

    Elements that all frames share are in `common`, the others in `varying`: tag to one `Raw` (or None) a frame.
    """

    common: dict[int, Raw]
    varying: dict[int, list[Raw | None]]
    paths: list[str]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    syntaxes: list[str]
    offsets: NDArray[np.int64]
    """Byte at which the pixels of a frame begin; -1 where pydicom has to find them."""
    lengths: NDArray[np.int64]
    pixel_tags: NDArray[np.int64]
    """Tag of the element that holds the pixels."""
    frames: NDArray[np.int64]
    """Number of the frame in its file."""
    tiles: NDArray[np.int64]
    """Part of the stored frame, shape (frame, 4), see `imagedata_xr.dicom.stored.Tile`."""
    _decoded: dict[int, list[Value | None]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def column(self, number: int) -> list[Raw | None]:
        """Return the bytes of one element in every frame; None where it is absent."""
        if number in self.varying:
            return self.varying[number]
        return [self.common.get(number)] * len(self)

    def values(self, name: str | int) -> list[Value | None]:
        """Return the values of one element in every frame; None where it is absent. Not to be changed."""
        number = tag(name)
        found = self._decoded.get(number)
        if found is None:
            if number in self.varying:
                column = list(zip(self.varying[number], self.column(CHARACTER_SET), strict=True))
                known = {pair: self._decode(number, *pair) for pair in set(column)}
                found = [known[pair] for pair in column]
            else:
                found = [self.value(number)] * len(self)
            self._decoded[number] = found
        return found

    def value(self, name: str | int) -> Value | None:
        """Return the value of an element that all frames share; None where it is absent or varies."""
        number = tag(name)
        # Of the first frame; not by column(), which makes a list of all frames for each element.
        characters = self.varying.get(CHARACTER_SET)
        return self._decode(
            number, self.common.get(number), characters[0] if characters else self.common.get(CHARACTER_SET)
        )

    def _decode(self, number: int, raw: Raw | None, characters: Raw | None) -> Value | None:
        if raw is None:
            return None
        try:
            return decode(number, raw, encodings_of(characters))
        except ValueError as err:
            path = next(p for p, r in zip(self.paths, self.column(number), strict=True) if r == raw)
            msg = f"{path} is damaged: {keyword(number)} cannot be read as {raw.vr}. {LEAVE_OUT}"
            raise UnreadableFileError(msg) from err

    def first(self, name: str | int) -> Value:
        """Return the value of one element in the first frame; "" where it is absent."""
        value = self.values(name)[0]
        return "" if value is None else value

    def take(self, rows: Iterable[int]) -> Self:
        """Return the table of some of the frames, in the order given."""
        chosen = [int(r) for r in rows]
        common, varying = dict(self.common), {}
        for number, column in self.varying.items():
            part = [column[r] for r in chosen]
            first = part[0] if part else None
            if any(raw != first for raw in part):
                varying[number] = part
            elif first is not None:
                common[number] = first
        return type(self)(
            common,
            varying,
            [self.paths[r] for r in chosen],
            self.sizes[chosen],
            self.mtimes[chosen],
            [self.syntaxes[r] for r in chosen],
            self.offsets[chosen],
            self.lengths[chosen],
            self.pixel_tags[chosen],
            self.frames[chosen],
            self.tiles[chosen],
        )


@cache
def encodings_of(characters: Raw | None) -> tuple[str, ...]:
    """Return Python's names of the character sets that SpecificCharacterSet names."""
    from pydicom.charset import convert_encodings

    if characters is None or not characters.value.strip(b"\0 "):
        return ("iso8859",)
    return tuple(convert_encodings([n.strip(" \0") for n in characters.value.decode("latin-1").split("\\")]))


class TableBuilder:
    """Collects the heads of one series; keeps of each only what differs from the first."""

    def __init__(self) -> None:
        self.first: dict[int, Raw] = {}
        self.differing: dict[int, dict[int, Raw | None]] = {}
        self.files: list[tuple[str, int, int, str, int, int, int, int, Tile]] = []
        self._shared: dict[int, Raw] | None = None
        self._of_shared: dict[int, Raw | None] = {}

    def add(self, path: str, size: int, mtime: int, head: Head, frame: Frame) -> None:
        """Take a frame of a file: its elements, and where its pixels are."""
        elements, row = frame.elements, len(self.files)
        place = (frame.offset, frame.length, frame.pixel_tag, frame.number, frame.tile)
        self.files.append((path, size, mtime, head.syntax, *place))
        if not row:
            self.first = elements
            return
        differing = self.differing
        if frame.shared is not None:
            # What such frames share was compared with the first before.
            if frame.shared is not self._shared:
                self._shared, self._of_shared = frame.shared, self._unlike_first(frame.shared)
            first = self.first
            for number, raw in frame.own.items():
                if first.get(number) != raw:
                    differing.setdefault(number, {})[row] = raw
            for number, other in self._of_shared.items():
                if number not in frame.own:
                    differing.setdefault(number, {})[row] = other
            return
        for number, other in self._unlike_first(elements).items():
            differing.setdefault(number, {})[row] = other

    def _unlike_first(self, elements: dict[int, Raw]) -> dict[int, Raw | None]:
        """Return the elements that differ from those of the first frame, None for those that are absent."""
        if elements == self.first:
            return {}
        first = self.first
        unlike: dict[int, Raw | None] = {n: raw for n, raw in elements.items() if first.get(n) != raw}
        unlike.update(dict.fromkeys(first.keys() - elements.keys()))
        return unlike

    def table(self) -> FrameTable:
        """Return the frames so far, of which there must be one."""
        n = len(self.files)
        common, varying = dict(self.first), {}
        for number, changed in self.differing.items():
            column: list[Raw | None] = [common.pop(number, None)] * n
            for row, raw in changed.items():
                column[row] = raw
            varying[number] = column
        paths, sizes, mtimes, syntaxes, offsets, lengths, pixel_tags, frames, tiles = zip(*self.files, strict=True)
        return FrameTable(
            common,
            varying,
            paths=list(paths),
            sizes=np.asarray(sizes, np.int64),
            mtimes=np.asarray(mtimes, np.int64),
            syntaxes=list(syntaxes),
            offsets=np.asarray(offsets, np.int64),
            lengths=np.asarray(lengths, np.int64),
            pixel_tags=np.asarray(pixel_tags, np.int64),
            frames=np.asarray(frames, np.int64),
            tiles=np.asarray(tiles, np.int64),
        )


def joined(tables: Sequence[FrameTable]) -> FrameTable:
    """Return the frames of several tables, one table after the other."""
    if len(tables) == 1:
        return tables[0]
    common: dict[int, Raw] = {}
    varying: dict[int, list[Raw | None]] = {}
    for number in dict.fromkeys(t for table in tables for t in (*table.common, *table.varying)):
        column = [raw for table in tables for raw in table.column(number)]
        first = column[0]
        if first is not None and all(raw == first for raw in column):
            common[number] = first
        else:
            varying[number] = column
    return FrameTable(
        common,
        varying,
        paths=[path for table in tables for path in table.paths],
        sizes=np.concatenate([table.sizes for table in tables]),
        mtimes=np.concatenate([table.mtimes for table in tables]),
        syntaxes=[syntax for table in tables for syntax in table.syntaxes],
        offsets=np.concatenate([table.offsets for table in tables]),
        lengths=np.concatenate([table.lengths for table in tables]),
        pixel_tags=np.concatenate([table.pixel_tags for table in tables]),
        frames=np.concatenate([table.frames for table in tables]),
        tiles=np.concatenate([table.tiles for table in tables]),
    )
