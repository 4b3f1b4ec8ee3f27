"""How a tag dim tells the frames of a stack apart: the label of each, and its number along the dim."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imagedata_xr.dicom.tags import Label, TagDim, WayToTell
from imagedata_xr.elements import keyword
from imagedata_xr.errors import OrderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.scan import FrameTable
    from imagedata_xr.dicom.stacks import Stack

__all__ = ["Codes", "cells_of", "identities", "labels_by", "tell", "tell_flowing", "unique_labels", "variation"]

_UNTOLD = frozenset(
    ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SliceLocation", "ImageOrientationPatient")
)


@dataclass(eq=False)
class Codes:
    """A tag dim told in one way: the label of each frame, and its number along the dim."""

    dim: TagDim
    way: WayToTell
    labels: list[Label]
    codes: NDArray[np.intp]
    size: int


def identities(table: FrameTable) -> list[str]:
    """Return what names each frame: SOPInstanceUID, and number and tile in its file; "" where it has no UID."""
    places = zip(table.frames.tolist(), table.tiles.tolist(), strict=True)
    return [f"{uid} {place}" if uid else "" for uid, place in zip(table.values("SOPInstanceUID"), places, strict=True)]


def labels_by(stack: Stack, way: WayToTell) -> list[Label] | None:
    """Return the label of each frame; None where a frame has none."""
    labels = way.labels(stack.table)
    complete = [label for label in labels if label is not None]
    return complete if len(complete) == len(labels) else None


def unique_labels(labels: Sequence[Label]) -> tuple[list[Label], NDArray[np.intp]]:
    """Return the distinct labels in ascending order, and the number of each frame's among them."""
    kinds = {isinstance(label, str) for label in labels}
    keys = [str(label) for label in labels] if len(kinds) > 1 else labels
    distinct = sorted(set(keys))
    number = {label: k for k, label in enumerate(distinct)}
    return list(distinct), np.asarray([number[label] for label in keys], np.intp)


def cells_of(stack: Stack, told: Sequence[Codes]) -> list[NDArray[np.intp]]:
    """Return the frames of each slice (and each label of the dims told)."""
    key = stack.slices.astype(np.intp)
    for t in told:
        key = key * t.size + t.codes
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def tell(stack: Stack, dims: Sequence[TagDim]) -> list[Codes]:
    """Return how each dim is told, in the order of `dims`."""
    told: dict[str, Codes] = {}
    for dim in dims:
        if dim.flows:
            continue
        for way in dim.ways:
            labels = labels_by(stack, way)
            if labels is not None:
                distinct, codes = unique_labels(labels)
                told[dim.name] = Codes(dim, way, labels, codes, len(distinct))
                break
        else:
            raise OrderError(_absent(stack, dim))
    for dim in dims:
        if dim.flows:
            told[dim.name] = tell_flowing(stack, dim, list(told.values()))
    return [told[dim.name] for dim in dims]


def tell_flowing(stack: Stack, dim: TagDim, told: Sequence[Codes], *, may_count: bool = True) -> Codes:
    """Return the codes of a dim whose labels go on within a volume: the first way that tells volumes apart.

    Where a user asks for time and no element tells it, volumes are counted, with a warning.
    """
    cells, reasons, contradicted = cells_of(stack, told), [], False
    for way in dim.ways:
        labels = labels_by(stack, way)
        if labels is None:
            continue
        values = np.asarray(labels, float)
        if any(len(np.unique(values[cell])) < len(cell) for cell in cells):
            reasons.append(f"{way.elements} is the same in several frames of one slice")
            continue
        codes = _volumes(values, cells)
        if codes is None:
            reasons.append(f"{way.elements} does not separate the volumes: they overlap")
            contradicted = True
            continue
        return Codes(dim, way, labels, codes, int(codes.max()) + 1)
    if not reasons:
        raise OrderError(_absent(stack, dim))
    if may_count and not contradicted and dim.name == "time" and max(map(len, cells)) > 1:
        counted = _counted(stack, dim, cells)
        if counted is not None:
            warnings.warn(
                f"no element tells time: {'; '.join(reasons)}. Volumes are numbered in the order of InstanceNumber",
                stacklevel=6,
            )
            return counted
    if max(map(len, cells)) == 1:
        msg = f"order {dim.name!r} has one frame a slice: {'; '.join(reasons)}"
    else:
        msg = f"order {dim.name!r} does not tell the frames apart: {'; '.join(reasons)}.{variation(stack)}"
    raise OrderError(msg)


def _volumes(values: NDArray[np.float64], cells: Sequence[NDArray[np.intp]]) -> NDArray[np.intp] | None:
    """Return the volume of each frame, None where the volumes overlap.

    Volumes whose slices share their labels are told by these. Else the frames of each slice are counted, and that is
    believed only when every frame of one volume comes before all frames of the next.
    """
    codes = np.empty(len(values), np.intp)
    most = max(map(len, cells))
    distinct = np.unique(values)
    if len(distinct) == most:
        return np.searchsorted(distinct, values)
    complete = [cell for cell in cells if len(cell) == most]
    ranked = np.stack([np.sort(values[cell]) for cell in complete])
    low, high = ranked.min(axis=0), ranked.max(axis=0)
    if (high[:-1] >= low[1:]).any():
        return None
    # Scanners take the slices in one order in all volumes; another one says that some volumes lack frames.
    turn = ranked[np.argsort(ranked[:, 0], kind="stable")]
    if (np.diff(turn, axis=0) < 0).any():
        return None
    # Frames of slices that lack some are placed by the middle of the pause between volumes.
    borders = (high[:-1] + low[1:]) / 2
    for cell in cells:
        mine = np.searchsorted(borders, values[cell])
        if len(np.unique(mine)) < len(cell):
            return None
        codes[cell] = mine
    return codes


def _instance_numbers(table: FrameTable) -> list[Label | None]:
    return [v if isinstance(v, int) else None for v in table.values("InstanceNumber")]


def _counted(stack: Stack, dim: TagDim, cells: Sequence[NDArray[np.intp]]) -> Codes | None:
    """Return volumes in the order of InstanceNumber; None unless all slices have as many frames."""
    way = WayToTell("InstanceNumber", _instance_numbers)
    labels = labels_by(stack, way)
    if labels is None or len({len(cell) for cell in cells}) > 1:
        return None
    codes = np.empty(len(labels), np.intp)
    values = np.asarray(labels, float)
    for cell in cells:
        if len(np.unique(values[cell])) < len(cell):
            return None
        codes[cell[np.argsort(values[cell])]] = np.arange(len(cell))
    numbers: list[Label] = [int(code) for code in codes]
    return Codes(dim, way, numbers, codes, int(codes.max()) + 1)


def variation(stack: Stack) -> str:
    """Return the elements that vary between the frames of one slice, and how many values each has."""
    cells = cells_of(stack, ())
    found = []
    for number in stack.table.varying:
        name = keyword(number)
        if not name or name in _UNTOLD or name.endswith("UID"):
            continue
        column = stack.table.column(number)
        if any(len({column[i] for i in cell}) > 1 for cell in cells):
            found.append((name, len(set(column))))
    if not found:
        return " Nothing else varies between frames of one slice"
    listed = ", ".join(f"{name} ({n} values)" for name, n in sorted(found, key=lambda f: f[1])[:12])
    return f" What varies within a slice of {max(map(len, cells))} frames: {listed}"


def _absent(stack: Stack, dim: TagDim) -> str:
    ways = " or ".join(way.elements for way in dim.ways)
    some = [way for way in dim.ways if any(label is not None for label in way.labels(stack.table))]
    if some:
        have = sum(label is not None for label in some[0].labels(stack.table))
        lack = f"which {len(stack.table) - have} of the {len(stack.table)} frames lack"
    else:
        lack = f"which none of the {len(stack.table)} frames has"
    return f"order {dim.name!r} needs {ways}, {lack}.{variation(stack)}"
