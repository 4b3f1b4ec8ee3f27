"""The frames of a stack to a grid of tag dims × slices, one frame at each place, or an error that says why not."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from imagedata_xr.dicom.tags import EPOCH, Label, Order, TagDim, WayToTell, parse_order, tag_dim
from imagedata_xr.dicom.scan import FrameTable
from imagedata_xr.elements import keyword, tag
from imagedata_xr.errors import DuplicateFramesError, MissingFramesError, OrderError
from imagedata_xr.geometry import unit_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.stacks import Stack

__all__ = ["Duplicates", "Grid", "Missing", "sort"]

Missing = Literal["error", "fill"]
Duplicates = Literal["error", "first", "last", "stack"]

_AUTO_DIMS = ("te", "fa", "b", "image_type", "InversionTime")
_NEARLY_FULL = 0.75
"""The part of its places that must be taken for a grid to be one with gaps, and not another one."""
_ACQUISITION = (
    *("AcquisitionNumber", "AcquisitionDateTime", "AcquisitionTime", "TriggerTime", "TemporalPositionIdentifier"),
    *("EchoTime", "FlipAngle", "DiffusionBValue", "InversionTime", "ImageType"),
)
"""Elements that tell acquisitions apart; frames of one place that differ in one of them are not copies."""
_UNTOLD = frozenset(
    ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SliceLocation", "ImageOrientationPatient")
)


@dataclass(eq=False)
class Axis:
    """One tag dim of a grid."""

    name: str
    labels: NDArray[Any]
    attrs: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Grid:
    """Where each frame goes."""

    axes: list[Axis]
    rows: NDArray[np.intp]
    """Number of the frame at each place, shape (tags..., slice); -1 where there is none."""
    start: datetime | None = None
    """When the first volume began, where the frames tell it."""


@dataclass(eq=False)
class _Codes:
    """A tag dim told in one way: the label of each frame, and its number along the dim."""

    dim: TagDim
    way: WayToTell
    labels: list[Label]
    codes: NDArray[np.intp]
    size: int


def sort(stack: Stack, order: Order = "auto", *, missing: Missing = "error", duplicates: Duplicates = "error") -> Grid:
    """Return the grid of the frames of a stack.

    Parameters
    ----------
    stack : Stack
        Frames with their slice numbers.
    order : str, sequence, mapping or function
        The tag dims, see `imagedata_xr.dicom.tags.parse_order`.
    missing : {"error", "fill"}
        What a place without a frame does.
    duplicates : {"error", "first", "last", "stack"}
        What a place with several frames does: raise, keep one of them in the order of InstanceNumber, or keep all
        along a further dim ``duplicate``.

    Raises
    ------
    OrderError
        If an element of the order is absent, or does not tell all frames apart.
    MissingFramesError, DuplicateFramesError
        If places are empty or taken twice; the error names them.
    """
    if missing not in ("error", "fill"):
        msg = f"missing={missing!r}: it is 'error' or 'fill'"
        raise ValueError(msg)
    if duplicates not in ("error", "first", "last", "stack"):
        msg = f"duplicates={duplicates!r}: it is 'error', 'first', 'last' or 'stack'"
        raise ValueError(msg)
    dims = parse_order(order)
    kept = _without_copies(stack, duplicates)
    if kept is not None:
        stack = replace(stack, table=stack.table.take(kept), slices=stack.slices[kept])
    if dims is None:
        dims = _propose(stack)
    grid = _fill(stack, _tell(stack, dims), missing, duplicates)
    if kept is not None:
        grid.rows = np.where(grid.rows < 0, -1, kept[grid.rows])
    return grid


def _without_copies(stack: Stack, duplicates: Duplicates) -> NDArray[np.intp] | None:
    """Return the frames without those that are there twice, None where none is.

    Raises
    ------
    DuplicateFramesError
        If duplicates are not to be left out; the error names files.
    """
    uids = _identities(stack.table)
    named = [uid for uid in uids if uid]
    if duplicates == "stack" or len(set(named)) == len(named):
        return None
    rows: dict[str, list[int]] = {}
    for row in _by_instance(stack):
        rows.setdefault(uids[row] or str(row), []).append(row)
    several = [same for same in rows.values() if len(same) > 1]
    if duplicates == "error":
        files = [stack.table.paths[row] for row in several[0][:3]]
        msg = (
            f"{len(several)} of {len(rows)} frames are there more than once, with the same SOPInstanceUID; "
            f"for example {', '.join(files)}. Take one of each with duplicates='first'"
        )
        raise DuplicateFramesError(msg)
    return np.sort([same[0 if duplicates == "first" else -1] for same in rows.values()])


def _identities(table: FrameTable) -> list[str]:
    """Return what names each frame: SOPInstanceUID, and number and tile in its file; "" where it has no UID."""
    places = zip(table.frames.tolist(), table.tiles.tolist(), strict=True)
    return [f"{uid} {place}" if uid else "" for uid, place in zip(table.values("SOPInstanceUID"), places, strict=True)]


def _by_instance(stack: Stack) -> list[int]:
    """Return the frames in the order of InstanceNumber, then of the files' names."""
    numbers = [v if isinstance(v, int) else 0 for v in stack.table.values("InstanceNumber")]
    return sorted(range(len(numbers)), key=lambda i: (numbers[i], stack.table.paths[i]))


# --- what tells frames apart


def _labels(stack: Stack, way: WayToTell) -> list[Label] | None:
    """Return the label of each frame; None where a frame has none."""
    labels = way.labels(stack.table)
    complete = [label for label in labels if label is not None]
    return complete if len(complete) == len(labels) else None


def _unique(labels: Sequence[Label]) -> tuple[list[Label], NDArray[np.intp]]:
    """Return the distinct labels in ascending order, and the number of each frame's among them."""
    kinds = {isinstance(label, str) for label in labels}
    keys = [str(label) for label in labels] if len(kinds) > 1 else labels
    distinct = sorted(set(keys))
    number = {label: k for k, label in enumerate(distinct)}
    return list(distinct), np.asarray([number[label] for label in keys], np.intp)


def _cells(stack: Stack, told: Sequence[_Codes]) -> list[NDArray[np.intp]]:
    """Return the frames of each slice (and each label of the dims told)."""
    key = stack.slices.astype(np.intp)
    for t in told:
        key = key * t.size + t.codes
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def _tell(stack: Stack, dims: Sequence[TagDim]) -> list[_Codes]:
    """Return how each dim is told, in the order of `dims`."""
    told: dict[str, _Codes] = {}
    for dim in dims:
        if dim.flows:
            continue
        for way in dim.ways:
            labels = _labels(stack, way)
            if labels is not None:
                distinct, codes = _unique(labels)
                told[dim.name] = _Codes(dim, way, labels, codes, len(distinct))
                break
        else:
            raise OrderError(_absent(stack, dim))
    for dim in dims:
        if dim.flows:
            told[dim.name] = _flowing(stack, dim, list(told.values()))
    return [told[dim.name] for dim in dims]


def _flowing(stack: Stack, dim: TagDim, told: Sequence[_Codes], *, may_count: bool = True) -> _Codes:
    """Return the codes of a dim whose labels go on within a volume: the first way that tells volumes apart.

    Where a user asks for time and no element tells it, volumes are counted, with a warning.
    """
    cells, reasons, contradicted = _cells(stack, told), [], False
    for way in dim.ways:
        labels = _labels(stack, way)
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
        return _Codes(dim, way, labels, codes, int(codes.max()) + 1)
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


def _counted(stack: Stack, dim: TagDim, cells: Sequence[NDArray[np.intp]]) -> _Codes | None:
    """Return volumes in the order of InstanceNumber; None unless all slices have as many frames."""
    way = WayToTell("InstanceNumber", _instance_numbers)
    labels = _labels(stack, way)
    if labels is None or len({len(cell) for cell in cells}) > 1:
        return None
    codes = np.empty(len(labels), np.intp)
    values = np.asarray(labels, float)
    for cell in cells:
        if len(np.unique(values[cell])) < len(cell):
            return None
        codes[cell[np.argsort(values[cell])]] = np.arange(len(cell))
    numbers: list[Label] = [int(code) for code in codes]
    return _Codes(dim, way, numbers, codes, int(codes.max()) + 1)


# --- order="auto"


def _propose(stack: Stack) -> tuple[TagDim, ...]:
    """Return the tag dims that fill the grid of a stack without a gap.

    Elements that vary within a slice and are not times must all be used, unless one of them tells the same as
    others. Time joins where they do not suffice.
    """
    if stack.orientation is None or len(stack.table) == stack.count:
        return ()
    varying: list[_Codes] = []
    for name in _AUTO_DIMS:
        dim = tag_dim(name)
        labels = next((found for way in dim.ways if (found := _labels(stack, way)) is not None), None)
        if labels is None:
            continue
        distinct, codes = _unique(labels)
        if any(len(np.unique(codes[cell])) > 1 for cell in _cells(stack, ())):
            varying.append(_Codes(dim, dim.ways[0], labels, codes, len(distinct)))
    for size in range(1, len(varying) + 1):
        fits = [chosen for chosen in itertools.combinations(varying, size) if _is_full(stack, chosen)]
        if len(fits) > 1:
            names = " or ".join(f"order={','.join(t.dim.name for t in chosen)!r}" for chosen in fits)
            msg = f"several orders sort these {len(stack.table)} frames: use {names}.{variation(stack)}"
            raise OrderError(msg)
        if fits:
            return tuple(t.dim for t in fits[0])
    time = tag_dim("time")
    for size in range(len(varying), -1, -1):
        for chosen in itertools.combinations(varying, size):
            cells = _cells(stack, chosen)
            shape = stack.count * prod(t.size for t in chosen)
            if len(cells) == shape and len({len(c) for c in cells}) == 1 and _times(stack, chosen) is not None:
                return (time, *(t.dim for t in chosen))
    nearly = _nearly(stack, varying)
    if nearly is not None:
        return nearly
    msg = (
        f"no order sorts these {len(stack.table)} frames of {stack.count} slices into a full grid.{variation(stack)}\n"
        "Name the dims with order=, or say what to do with missing= and duplicates="
    )
    raise OrderError(msg)


def _is_full(stack: Stack, chosen: Sequence[_Codes]) -> bool:
    cells = _cells(stack, chosen)
    return len(cells) == stack.count * prod(t.size for t in chosen) == len(stack.table)


def _times(stack: Stack, chosen: Sequence[_Codes]) -> _Codes | None:
    """Return how time is told beside other dims; None where it is not."""
    try:
        return _flowing(stack, tag_dim("time"), chosen, may_count=False)
    except OrderError:
        return None


def _nearly(stack: Stack, varying: Sequence[_Codes]) -> tuple[TagDim, ...] | None:
    """Return the dims of a grid that would be full but for a few frames missing or there twice.

    Filling the grid then raises an error that names these frames, or does with them what was asked for.
    """
    uids = _identities(stack.table)
    if len(set(uids)) == stack.count and not varying:
        return ()
    time = _times(stack, varying)
    for chosen in (list(varying), [time, *varying] if time is not None else None):
        if not chosen:
            continue
        cells = _cells(stack, chosen)
        places = stack.count * prod(t.size for t in chosen)
        if max(map(len, cells)) == 1 and len(cells) >= _NEARLY_FULL * places:
            return tuple(t.dim for t in chosen)
    return None


# --- the grid


def _fill(stack: Stack, told: Sequence[_Codes], missing: Missing, duplicates: Duplicates) -> Grid:
    """Return the grid of frames whose place along each dim is known."""
    shape = (*(t.size for t in told), stack.count)
    place = np.ravel_multi_index((*(t.codes for t in told), stack.slices), shape)
    counts = np.bincount(place, minlength=prod(shape))
    first = np.asarray(_by_instance(stack), np.intp)
    axes, start = _axes(told)
    if (counts > 1).any():
        if duplicates == "stack":
            return _stacked(stack, axes, start, place[first], first, shape, missing)
        if duplicates == "error":
            _raise_duplicates(stack, told, place, counts, axes, shape)
        _check_alike(stack, told, place, counts)
    rows = np.full(prod(shape), -1, np.intp)
    chosen = first[::-1] if duplicates == "first" else first
    rows[place[chosen]] = chosen
    grid = Grid(axes, rows.reshape(shape), start)
    _check_missing(stack, grid, missing)
    return grid


def _axes(told: Sequence[_Codes]) -> tuple[list[Axis], datetime | None]:
    """Return the labels along each dim, and when the first volume began."""
    axes, start = [], None
    for t in told:
        attrs = {"units": t.way.units} if t.way.units else {}
        attrs["element"] = t.way.elements
        if not t.dim.flows:
            distinct, _ = _unique(t.labels)
            axes.append(Axis(t.dim.name, np.asarray(distinct), attrs))
            continue
        values = np.asarray(t.labels, float)
        begin = np.asarray([values[t.codes == k].min() for k in range(t.size)])
        if t.dim.name == "time" and t.way.elements != "InstanceNumber":
            if t.way.is_clock and begin[0] >= 86400:
                start = EPOCH + timedelta(seconds=float(begin[0]))
            begin = np.round(begin - begin[0], 6)
        axes.append(Axis(t.dim.name, begin, attrs))
    return axes, start


def _stacked(
    stack: Stack,
    axes: list[Axis],
    start: datetime | None,
    place: NDArray[np.intp],
    first: NDArray[np.intp],
    shape: tuple[int, ...],
    missing: Missing,
) -> Grid:
    """Return the grid with a further dim for the frames that share a place."""
    counter: dict[int, int] = {}
    copy = np.empty(len(place), np.intp)
    for i, p in enumerate(place):
        copy[i] = counter[int(p)] = counter.get(int(p), -1) + 1
    depth = int(copy.max()) + 1
    rows = np.full((prod(shape[:-1]), depth, shape[-1]), -1, np.intp)
    rows[place // shape[-1], copy, place % shape[-1]] = first
    axes = [*axes, Axis("duplicate", np.arange(depth))]
    grid = Grid(axes, rows.reshape((*shape[:-1], depth, shape[-1])), start)
    _check_missing(stack, grid, missing)
    return grid


def _raise_duplicates(
    stack: Stack,
    told: Sequence[_Codes],
    place: NDArray[np.intp],
    counts: NDArray[np.intp],
    axes: list[Axis],
    shape: tuple[int, ...],
) -> None:
    """Raise for places with several frames: another dim is wanted, or frames are there twice."""
    taken = np.flatnonzero(counts > 1)
    most, n_twice = int(counts.max()), len(taken)
    names = [t.dim.name for t in told]
    where = "; ".join(_name_place(stack, axes, np.unravel_index(p, shape)) for p in taken[:4])
    where += f" and {n_twice - 4} more" * (n_twice > 4)
    order = ",".join(names) or "none"
    proposal = _proposal(stack, names)
    msg = (
        f"order {order!r} leaves up to {most} frames at one place: {where}.{variation(stack)}\n"
        f"{proposal} or choose with duplicates='first', 'last' or 'stack'"
    )
    raise (OrderError if n_twice == np.count_nonzero(counts) and proposal.startswith("Use") else DuplicateFramesError)(
        msg
    )


def _check_alike(stack: Stack, told: Sequence[_Codes], place: NDArray[np.intp], counts: NDArray[np.intp]) -> None:
    """Raise where frames at one place are other acquisitions, of which none may be dropped as a duplicate."""
    twice = np.flatnonzero(counts[place] > 1)
    for name in _ACQUISITION:
        column = stack.table.column(tag(name))
        seen: dict[int, set[object]] = {}
        for i in twice:
            seen.setdefault(int(place[i]), set()).add(column[i])
        if any(len(values) > 1 for values in seen.values()):
            order = ",".join([*(t.dim.name for t in told), name])
            msg = f"frames at one place differ in {name}: they are no duplicates. Tell them apart with order={order!r}"
            raise OrderError(msg)


def _proposal(stack: Stack, names: Sequence[str]) -> str:
    """Return advice which order to use."""
    try:
        dims = _propose(stack)
    except OrderError:
        return "Name a further dim in order=,"
    wanted = ",".join(dim.name for dim in dims)
    return f"Use order={wanted!r}," if wanted and wanted != ",".join(names) else "Name a further dim in order=,"


def _name_place(stack: Stack, axes: Sequence[Axis], index: Sequence[Any]) -> str:
    """Return a place in words: ``time 5.975 s, slice 2 (33.616 mm)``."""
    parts = []
    for axis, k in zip(axes, index, strict=False):
        label = axis.labels[k]
        text = f"{label:g}" if isinstance(label, np.floating) else f"{label}"
        parts.append(f"{axis.name} {text} {axis.attrs.get('units', '')}".rstrip())
    number = int(index[-1])
    if stack.positions is None or stack.orientation is None:
        return ", ".join([*parts, f"slice {number}"])
    normal = unit_vectors(stack.orientation)[0]
    return ", ".join([*parts, f"slice {number} ({stack.positions[number] @ normal:.3f} mm)"])


def _check_missing(stack: Stack, grid: Grid, missing: Missing) -> None:
    """Raise where places are empty, unless they are to be filled."""
    empty = np.argwhere(grid.rows < 0)
    if not len(empty) or missing == "fill":
        return
    n = grid.rows.size
    where = "; ".join(_name_place(stack, grid.axes, index) for index in empty[:6])
    where += f" and {len(empty) - 6} more" * (len(empty) > 6)
    order = ",".join(axis.name for axis in grid.axes)
    msg = (
        f"{len(empty)} of {n} frames are missing in order {order!r}: {where}.{variation(stack)}\n"
        "Get them, or open with missing='fill'"
    )
    raise MissingFramesError(msg)


# --- words for errors


def variation(stack: Stack) -> str:
    """Return the elements that vary between the frames of one slice, and how many values each has."""
    cells = _cells(stack, ())
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
