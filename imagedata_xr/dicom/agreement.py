"""Whether the coordinates of an image are still what the heads of its files say."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.dicom.basis import as_text
from imagedata_xr.dicom.job import TIMES
from imagedata_xr.dicom.patch import Answers
from imagedata_xr.dicom.table import encodings_of
from imagedata_xr.elements import decode_all, tag
from imagedata_xr.headers import header_values, values_of_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import xarray as xr

    from imagedata_xr.dicom.job import Job
    from imagedata_xr.dicom.patch import SourceHead
    from imagedata_xr.elements import Raw

__all__ = ["Agreement", "FrameColumns"]

_CHARACTERS: Final = tag("SpecificCharacterSet")
_MOST_PAIRS: Final = 4096
"""Values that are kept of an element; in some no two frames have the same."""


class FrameColumns:
    """Coordinates and attributes of an image, for each of its frames.

    Parameters
    ----------
    da : DataArray
        Dims (tags..., slice, row, col), and rgb for colours.
    """

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da
        self._sizes = {str(dim): size for dim, size in da.sizes.items() if dim not in ("row", "col", "rgb")}
        self._columns: dict[str, list[Any]] = {}
        self.count = prod(self._sizes.values())
        """Number of frames."""

    def one_frame(self) -> xr.DataArray:
        """Return the first frame."""
        return self._da.isel(dict.fromkeys(self._sizes, 0))

    def of(self, name: str) -> list[Any]:
        """Return a coordinate (or attribute) of every frame, in the order of the dims."""
        if name not in self._columns:
            coords = self._da.coords
            if name in coords:
                self._columns[name] = values_of_frames(self._da, name).ravel().tolist()
            else:
                self._columns[name] = [self._da.attrs[name]] * self.count
        return self._columns[name]

    def first(self, index: Mapping[str, int]) -> int:
        """Return the number of the first frame of a volume, in the order of the dims, of which ``slice`` is last."""
        place = 0
        for dim, size in self._sizes.items():
            place = place * size + index.get(dim, 0)
        return place


class Agreement:
    """Compares the coordinates of frames with the heads of their files."""

    def __init__(self, job: Job, columns: FrameColumns) -> None:
        self._columns = columns
        left_out = {*job.tag_dims, "AcquisitionDateTime"}
        along = [
            str(name)
            for name, coord in job.da.coords.items()
            if coord.ndim and not {"row", "col"} & set(coord.dims) and name not in left_out
        ]
        elements = header_values(columns.one_frame().assign_coords(dict.fromkeys(along, "")))
        wanted = [*along, *(name for name in elements if name in TIMES and name not in left_out)]
        # The coordinates of frames that are elements, and what tells the time of the whole image.
        self._compared = [(name, tag(name)) for name in dict.fromkeys(wanted) if name in elements]
        self._pairs: dict[object, set[tuple[Any, Any]]] = {}
        self._shared = Answers[bool]()

    def holds(self, heads: Sequence[SourceHead], places: Sequence[int]) -> bool:
        """Return whether the coordinates of frames are what their heads say.

        Parameters
        ----------
        heads : sequence of SourceHead
            Of the files that the frames came from.
        places : sequence of int
            Numbers of the frames, in the order of the dims.
        """
        alike: dict[tuple[int, Raw | None], list[int]] = {}
        for row, head in enumerate(heads):
            alike.setdefault((head.form.version, head.raw(_CHARACTERS)), []).append(row)
        for (version, characters), rows in alike.items():
            form, some = heads[rows[0]].form, [heads[row] for row in rows]
            for name, number in self._compared:
                column, at = self._columns.of(name), form.at(number)
                values = [column[places[row]] for row in rows]
                if at is not None:
                    told = [None if at in head.open else head.values[at] for head in some]
                    same = self._are_same(number, form.vr(at), characters, set(zip(told, values, strict=True)))
                else:
                    raw = form.shared.get(number)
                    same = self._is_shared(number, version, characters, raw, frozenset(values))
                if not same:
                    return False
        return True

    def _are_same(self, number: int, vr: str, characters: Raw | None, pairs: set[tuple[bytes | None, Any]]) -> bool:
        """Return whether values are what an element says in which heads differ."""
        known = self._pairs.setdefault((number, vr, characters), set())
        same = pairs <= known or _say_the_same(number, vr, pairs - known, characters)
        if same and len(known) < _MOST_PAIRS:
            known |= pairs  # volumes have many in common
        return same

    def _is_shared(
        self, number: int, version: int, characters: Raw | None, raw: Raw | None, values: frozenset[Any]
    ) -> bool:
        """Return whether values are what an element says that is the same in all heads."""
        vr, data = raw or ("", None)
        return self._shared.of(
            (number, version, characters, values),
            lambda: _say_the_same(number, vr, [(data, value) for value in values], characters),
        )


def _say_the_same(number: int, vr: str, pairs: Iterable[tuple[bytes | None, Any]], characters: Raw | None) -> bool:
    """Return whether values are what an element says, each with its bytes; None where there are none."""
    said = [(raw, value) for raw, value in pairs if value == value]  # NaN says nothing
    if vr == "SQ" and said:
        return False
    if not all(raw is not None or value == "" for raw, value in said):
        return False
    told = [(raw, value) for raw, value in said if raw is not None]
    if not told or not vr:
        return not told
    found = decode_all(number, vr, [raw for raw, _ in told], encodings_of(characters))
    if all(type(value) is str for _, value in told) and list(found) == [value for _, value in told]:
        return True  # as nearly always, and then the texts are the same
    return [as_text(one) for one in found] == [as_text(value) for _, value in told]
