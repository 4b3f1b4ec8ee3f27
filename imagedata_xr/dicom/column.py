"""One element in the frames of a series: the different bytes that there are, and which frame has which."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from imagedata_xr.dicom.walk import raw_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.elements import Raw

__all__ = ["Column", "coded", "column_of", "constant", "stacked"]

T = TypeVar("T")


class Column(NamedTuple):
    """The bytes of one element in some frames. No two of `values` are the same, of one VR."""

    codes: NDArray[np.intp]
    """Which of `values` each frame has."""
    values: list[bytes | None]
    """None where the element is absent."""
    vrs: list[str]
    """VR of each of the values."""

    def raws(self) -> list[Raw | None]:
        """Return the values with their VRs, one of each."""
        return [raw_or_none(vr, value) for vr, value in zip(self.vrs, self.values, strict=True)]

    def take(self, rows: NDArray[np.intp]) -> Column:
        """Return the column of some of the frames."""
        codes = self.codes[rows]
        used, again = np.unique(codes, return_inverse=True)
        if len(used) == len(self.values):
            return Column(codes, self.values, self.vrs)
        chosen = used.tolist()
        return Column(again, [self.values[k] for k in chosen], [self.vrs[k] for k in chosen])


def coded(values: Sequence[T]) -> tuple[NDArray[np.intp], list[T]]:
    """Return the distinct ones of some values, and the number of each value among them."""
    if values and values[0] == values[-1] and values.count(values[0]) == len(values):
        return np.zeros(len(values), np.intp), [values[0]]
    distinct = list(dict.fromkeys(values))
    if len(distinct) == len(values):
        return np.arange(len(values)), distinct
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    return np.fromiter(map(place.__getitem__, values), np.intp, len(values)), distinct


def column_of(vr: str, values: Sequence[bytes | None]) -> Column:
    """Return the column of values of one VR; of a VR that is "" or "SQ" no value is kept."""
    if vr in ("", "SQ"):
        return constant(raw_or_none(vr, b""), len(values))
    codes, distinct = coded(values)
    return Column(codes, distinct, [vr] * len(distinct))


def constant(raw: Raw | None, count: int) -> Column:
    """Return the column of so many frames that have one value."""
    vr, value = raw or ("", None)
    return Column(np.zeros(count, np.intp), [value], [vr])


def stacked(parts: Sequence[Column], rows: Sequence[Sequence[int]] | None = None) -> Column:
    """Return the columns of several tables as one, one after the other, or each at the rows given for it."""
    if len(parts) == 1 and rows is None:
        return parts[0]
    numbers: dict[tuple[bytes | None, str], int] = {}
    codes = []
    for part in parts:
        keys = ((value, "" if value is None else vr) for value, vr in zip(part.values, part.vrs, strict=True))
        here = np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], np.intp)
        codes.append(here[part.codes])
    joined = np.concatenate(codes)
    if rows is not None:
        joined[np.concatenate([np.asarray(r, np.intp) for r in rows])] = joined.copy()
    return Column(joined, [value for value, _ in numbers], [vr for _, vr in numbers])
