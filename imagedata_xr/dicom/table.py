"""The frames of one series: element values, file, offset and length, column by column."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Self

import numpy as np

from imagedata_xr.dicom.column import Column, coded, column_of, constant, stacked
from imagedata_xr.dicom.stored import WHOLE
from imagedata_xr.dicom.walk import Alike, Elements
from imagedata_xr.elements import Raw, Value, decode, decode_all, keyword, tag
from imagedata_xr.errors import UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.expand import Frames
    from imagedata_xr.dicom.stored import Tile
    from imagedata_xr.dicom.walk import Head, Kinds

__all__ = ["FrameTable", "TableBuilder", "encodings_of", "joined"]

CHARACTER_SET = tag("SpecificCharacterSet")
LEAVE_OUT = "Get it again, or leave it out with errors='warn'"


@dataclass(slots=True)
class FrameTable:
    """The frames of one series, column by column.

    Elements that all frames share are in `common`, the others in `varying`.
    """

    common: dict[int, Raw]
    varying: dict[int, Column]
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
    _coded: dict[int, tuple[NDArray[np.intp], list[Value | None]]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def column(self, number: int) -> list[Raw | None]:
        """Return the bytes of one element in every frame; None where it is absent."""
        column = self.as_column(number)
        raws = column.raws()
        return [raws[code] for code in column.codes.tolist()]

    def as_column(self, number: int) -> Column:
        """Return one element in every frame, whether it varies or not."""
        return self.varying.get(number) or constant(self.common.get(number), len(self))

    def distinct_raws(self, number: int) -> list[Raw | None]:
        """Return the different bytes that one element has in the frames; None where it is absent."""
        return self.as_column(number).raws()

    def codes(self, name: str | int) -> tuple[NDArray[np.intp], list[Value | None]]:
        """Return the values that one element has in the frames, None for where it is absent, and which each frame has.

        A value may be there more than once, since different bytes can mean the same. Not to be changed.
        """
        number = tag(name)
        found = self._coded.get(number)
        if found is None:
            found = self._coded[number] = self._encoded(number)
        return found

    def _encoded(self, number: int) -> tuple[NDArray[np.intp], list[Value | None]]:
        if number not in self.varying:
            return np.zeros(len(self), np.intp), [self.value(number)]
        column = self.varying[number]
        if CHARACTER_SET in self.varying:
            codes, found = coded(list(zip(self.column(number), self.column(CHARACTER_SET), strict=True)))
            return codes, [self._decode(number, *pair) for pair in found]
        characters = self.common.get(CHARACTER_SET)
        there = [value for value in column.values if value is not None]
        vrs = set(column.vrs) - {""}
        values: list[Value | None] | None = None
        if len(vrs) == 1:
            with suppress(ValueError):
                values = decode_all(number, vrs.pop(), there, encodings_of(characters))
        if values is None:
            return column.codes, [self._decode(number, raw, characters) for raw in column.raws()]
        if len(there) < len(column.values):
            values.insert(column.values.index(None), None)
        return column.codes, values

    def distinct(self, name: str | int) -> list[Value | None]:
        """Return the values that one element has in the frames, None for where it is absent. Not to be changed."""
        return self.codes(name)[1]

    def values(self, name: str | int) -> list[Value | None]:
        """Return the values of one element in every frame; None where it is absent. Not to be changed."""
        codes, distinct = self.codes(name)
        return [distinct[code] for code in codes.tolist()] if len(distinct) > 1 else distinct * len(self)

    def value(self, name: str | int) -> Value | None:
        """Return the value of an element that all frames share; None where it is absent or varies."""
        number = tag(name)
        # Of the first frame; not by column(), which makes a list of all frames for each element.
        raw = self.common.get(number)
        if raw is None:
            return None
        varies = CHARACTER_SET in self.varying
        return self._decode(number, raw, self.column(CHARACTER_SET)[0] if varies else self.common.get(CHARACTER_SET))

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
        codes, values = self.codes(name)
        value = values[codes[0]]
        return "" if value is None else value

    def take(self, rows: Iterable[int]) -> Self:
        """Return the table of some of the frames, in the order given."""
        chosen = [int(r) for r in rows]
        at = np.asarray(chosen, np.intp)
        common, varying = dict(self.common), dict[int, Column]()
        for number, column in self.varying.items():
            _keep(common, varying, number, column.take(at))
        return type(self)(
            common,
            varying,
            [self.paths[r] for r in chosen],
            self.sizes[at],
            self.mtimes[at],
            [self.syntaxes[r] for r in chosen],
            self.offsets[at],
            self.lengths[at],
            self.pixel_tags[at],
            self.frames[at],
            self.tiles[at],
        )


@cache
def encodings_of(characters: Raw | None) -> tuple[str, ...]:
    """Return Python's names of the character sets that SpecificCharacterSet names."""
    from pydicom.charset import convert_encodings

    if characters is None or not characters.value.strip(b"\0 "):
        return ("iso8859",)
    return tuple(convert_encodings([n.strip(" \0") for n in characters.value.decode("latin-1").split("\\")]))


def _keep(common: dict[int, Raw], varying: dict[int, Column], number: int, column: Column) -> None:
    """Take an element among those that all frames share, or those that vary."""
    if len(column.values) > 1:
        varying[number] = column
        return
    for raw in column.raws():
        if raw is not None:
            common[number] = raw


class _Run:
    """Heads that share elements with each other: what these are, as far as the first head has others."""

    def __init__(self, unlike: dict[int, Raw | None], shared: dict[int, Raw], kinds: Kinds) -> None:
        self.unlike, self.shared, self.kinds = unlike, shared, kinds
        self.rows: list[int] = []
        self.own: list[Sequence[bytes | None]] = []

    def columns(self) -> dict[int, Column]:
        """Return the bytes in each head of the elements that are not shared."""
        values = zip(*self.own, strict=True)
        return {number: column_of(vr, some) for (number, vr), some in zip(self.kinds, values, strict=True)}


class TableBuilder:
    """Collects the heads of one series; keeps of each only what differs from the first."""

    def __init__(self) -> None:
        self.first: dict[int, Raw] = {}
        self._files: list[tuple[str, int, int, str, int, int, int, int, int, Sequence[Tile]]] = []
        self._count = 0
        self._runs: list[_Run] = []
        self._last: _Run | None = None
        self._run_of: dict[tuple[int, Kinds], _Run] = {}
        """By the identity of the elements that are shared, which the run keeps so that it stays theirs."""

    def add(self, path: str, size: int, mtime: int, head: Head, frames: Frames) -> None:
        """Take the frames of a file: their elements, and where their pixels are."""
        all_elements, offset, step, length, pixel_tag, tiles = frames
        first, run = self._count, self._last
        for elements in all_elements:
            shared, kinds, _ = elements
            if run is None or shared is not run.shared or kinds is not run.kinds:
                run = self._last = self._run_of.get((id(shared), kinds)) or self._new_run(elements)
            if isinstance(elements, Alike):
                run.rows.extend(range(self._count, self._count + len(elements.own)))
                run.own.extend(elements.own)
                self._count += len(elements.own)
            else:
                run.rows.append(self._count)
                run.own.append(elements.own)
                self._count += 1
        count = self._count - first
        self._files.append((path, size, mtime, head.syntax, count, offset, step, length, pixel_tag, tiles))

    def _new_run(self, elements: Elements | Alike) -> _Run:
        shared, kinds, _ = elements
        if not self._runs:
            one = Elements(shared, kinds, elements.own[0]) if isinstance(elements, Alike) else elements
            self.first = one.whole()
        first = self.first
        unlike: dict[int, Raw | None] = {}
        if shared != first:
            unlike = {n: raw for n, raw in shared.items() if first.get(n) != raw}
            unlike |= dict.fromkeys(first.keys() - shared.keys())
        run = _Run(unlike, shared, kinds)
        self._runs.append(run)
        if kinds:  # else most likely of one head
            self._run_of[id(shared), kinds] = run
        return run

    def table(self) -> FrameTable:
        """Return the frames so far, of which there must be one."""
        common, varying = dict(self.first), dict[int, Column]()
        rows = None if len(self._runs) == 1 else [run.rows for run in self._runs]
        own = [run.columns() for run in self._runs]
        for number in dict.fromkeys(
            t for run, columns in zip(self._runs, own, strict=True) for t in (*run.unlike, *columns)
        ):
            raw = common.pop(number, None)
            parts = [
                columns.get(number) or constant(run.unlike.get(number, raw), len(run.rows))
                for run, columns in zip(self._runs, own, strict=True)
            ]
            _keep(common, varying, number, stacked(parts, rows))
        paths, sizes, mtimes, syntaxes, numbers, offsets, steps, lengths, pixel_tags, tiles = zip(
            *self._files, strict=True
        )
        counts = np.asarray(numbers, np.int64)
        file = np.repeat(np.arange(len(counts)), counts)
        frames = np.arange(self._count) - (np.cumsum(counts) - counts)[file]
        offset, step = np.asarray(offsets, np.int64)[file], np.asarray(steps, np.int64)[file]
        tile = np.zeros((self._count, 4), np.int64)
        if any(tiles):
            tile[:] = [
                one for some, count in zip(tiles, counts.tolist(), strict=True) for one in some or (WHOLE,) * count
            ]
        of_frames = file.tolist()
        return FrameTable(
            common,
            varying,
            paths=[paths[k] for k in of_frames],
            sizes=np.asarray(sizes, np.int64)[file],
            mtimes=np.asarray(mtimes, np.int64)[file],
            syntaxes=[syntaxes[k] for k in of_frames],
            offsets=np.where(offset < 0, offset, offset + frames * step),
            lengths=np.asarray(lengths, np.int64)[file],
            pixel_tags=np.asarray(pixel_tags, np.int64)[file],
            frames=frames,
            tiles=tile,
        )


def joined(tables: Sequence[FrameTable]) -> FrameTable:
    """Return the frames of several tables, one table after the other."""
    if len(tables) == 1:
        return tables[0]
    common: dict[int, Raw] = {}
    varying: dict[int, Column] = {}
    for number in dict.fromkeys(t for table in tables for t in (*table.common, *table.varying)):
        _keep(common, varying, number, stacked([table.as_column(number) for table in tables]))
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
