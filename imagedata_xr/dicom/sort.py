"""The frames of a stack to a grid of tag dims × slices, one frame at each place, or an error that says why not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from imagedata_xr.dicom.copies import B_VALUE, DIRECTION, differences
from imagedata_xr.dicom.propose import propose
from imagedata_xr.dicom.stacks import by_instance, is_segmentation
from imagedata_xr.dicom.tags import EPOCH, Order, has_segments, parse_order
from imagedata_xr.dicom.tell import Codes, NothingTellsError, identities, labels_by, tell, unique_labels, variation
from imagedata_xr.errors import DuplicateFramesError, MissingFramesError, OrderError
from imagedata_xr.geometry import unit_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.stacks import Stack
    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.dicom.tags import Label, TagDim

__all__ = ["Axis", "Duplicates", "Grid", "Missing", "check_choices", "sort"]

Missing = Literal["error", "fill"]
Duplicates = Literal["error", "first", "last", "stack"]

_SPARSE = ({"b", "bvector"}, {"image_type", "dti"})
"""Dims that do not fill their grid together."""
_NUMBER_THEM = "Number the frames of each slice with a function of the header, order={name: function}"
_ONE_OF_THEM = "duplicates='first', 'last' or "


@dataclass(eq=False)
class Axis:
    """One tag dim of a grid."""

    name: str
    labels: NDArray[Any]
    attrs: dict[str, str] = field(default_factory=dict)
    coords: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """What is known of each label beside it: b-value and direction of a diffusion volume."""
    numbered: str = ""
    """What its labels number: see `imagedata_xr.dicom.tags.TagDim.numbered`."""


@dataclass(eq=False)
class Grid:
    """Where each frame goes."""

    axes: list[Axis]
    rows: NDArray[np.intp]
    """Number of the frame at each place, shape (tags..., slice); -1 where there is none."""
    start: datetime | None = None
    """When the first volume began, where the frames tell it."""
    copies: NDArray[np.intp] | None = None
    """Frames with one SOPInstanceUID, shape (n, 2): the one that is in the grid, and one that was left out for it."""


def check_choices(missing: str, duplicates: str) -> None:
    """Raise ValueError for what says nothing of missing or of duplicate frames.

    Examples
    --------
    >>> check_choices("error", "frist")
    Traceback (most recent call last):
        ...
    ValueError: duplicates='frist': it is 'error', 'first', 'last' or 'stack'
    """
    if missing not in ("error", "fill"):
        msg = f"missing={missing!r}: it is 'error' or 'fill'"
        raise ValueError(msg)
    if duplicates not in ("error", "first", "last", "stack"):
        msg = f"duplicates={duplicates!r}: it is 'error', 'first', 'last' or 'stack'"
        raise ValueError(msg)


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
        What a place with several frames does: raise, keep one of copies in the order of InstanceNumber, or keep all
        along a further dim ``duplicate``.

    Raises
    ------
    OrderError
        If an element of the order is absent, or does not tell all frames apart; if frames to be dropped are no copies.
    MissingFramesError, DuplicateFramesError
        If places are empty or taken twice; the error names them.
    """
    check_choices(missing, duplicates)
    dims = parse_order(order)
    copies = _copies(stack, duplicates)
    kept = None if copies is None else np.setdiff1d(np.arange(len(stack.table)), copies[:, 1])
    if kept is not None:
        # A slice may be gone of which there was but the copy.
        _, slices = np.unique(stack.slices[kept], return_inverse=True)
        stack = replace(stack, table=stack.table.take(kept), slices=slices)
    if dims is None:
        dims = propose(stack)
    elif stack.orientation is None:
        stack = replace(stack, slices=_slices_of_volumes(stack, dims))
    of_segments = has_segments(stack.table) and any(dim.name == "segment" for dim in dims)
    # Frames without a voxel of their segment need not be there: they are background, not missing.
    may_lack = of_segments or is_segmentation(stack.table)
    grid = _fill(stack, _told(stack, dims), "fill" if may_lack else missing, duplicates)
    if of_segments:
        _add_empty_segments(grid, stack.table)
    if kept is not None:
        grid.rows = np.where(grid.rows < 0, -1, kept[grid.rows])
        grid.copies = copies
    return grid


def _copies(stack: Stack, duplicates: Duplicates) -> NDArray[np.intp] | None:
    """Return the frames that are there twice, None where none is: the one to keep and one to leave out, shape (n, 2).

    Raises
    ------
    DuplicateFramesError
        If duplicates are not to be left out; the error names files.
    """
    codes, instances = stack.table.codes("SOPInstanceUID")
    if len(instances) == len(codes) or len(np.unique(stack.table.frames * len(instances) + codes)) == len(codes):
        return None
    uids = identities(stack.table)
    named = [uid for uid in uids if uid]
    if duplicates == "stack" or len(set(named)) == len(named):
        return None
    rows: dict[str, list[int]] = {}
    for row in by_instance(stack.table):
        rows.setdefault(uids[row] or str(row), []).append(row)
    several = [same for same in rows.values() if len(same) > 1]
    first = {row: same[0] for same in rows.values() for row in same}
    names = differences(stack.table, np.asarray([first[k] for k in range(len(first))], np.intp), one_place=False)
    if names:
        alone = ((same, stack.table.take(same), np.zeros(len(same), np.intp)) for same in several)
        unlike = (same for same, table, together in alone if differences(table, together, one_place=False))
        files = ", ".join(stack.table.paths[row] for row in next(unlike, several[0])[:3])
        msg = (
            f"frames with the same SOPInstanceUID differ in {', '.join(names[:4])}, so they are no copies; for example "
            f"{files}. Leave some of them out with where=, or sort all of them with order= and duplicates='stack'"
        )
        raise DuplicateFramesError(msg)
    if duplicates == "error":
        files = ", ".join(stack.table.paths[row] for row in several[0][:3])
        msg = (
            f"{len(several)} of {len(rows)} frames are there more than once, with the same SOPInstanceUID; "
            f"for example {files}. Take one of each with duplicates='first'"
        )
        raise DuplicateFramesError(msg)
    chosen = 0 if duplicates == "first" else -1
    return np.asarray([(same[chosen], row) for same in several for row in same if row != same[chosen]], np.intp)


def _slices_of_volumes(stack: Stack, dims: Sequence[TagDim]) -> NDArray[np.intp]:
    """Return the slice number of frames without a place, where those of the same labels can be one volume each.

    Slices of a volume are those of the first with the same SliceLocation, else they are counted in the order of
    InstanceNumber. Frames stay as they are where the volumes have not as many frames each.
    """
    table = stack.table
    if stack.count < len(table) or has_segments(table) or any(dim.numbered for dim in dims):
        return stack.slices
    labels: list[tuple[Label, ...]] = [()] * len(table)
    for dim in sorted(dims, key=lambda dim: dim.flows):
        told = [found for way in dim.ways if (found := labels_by(stack, way)) is not None]
        further = [[(*before, label) for before, label in zip(labels, found, strict=True)] for found in told]
        # Times are told by the first element that differs, see `tell_flowing`.
        differing = [found for found in further if dim.flows and len(set(found)) > len(set(labels))]
        labels = [*differing, *further, labels][0]
    volumes: dict[tuple[Label, ...], list[int]] = {}
    for row in by_instance(table):
        volumes.setdefault(labels[row], []).append(row)
    first, *others = volumes.values()
    if any(len(rows) != len(first) for rows in others):
        return stack.slices
    locations = list(map(str, table.values("SliceLocation")))
    number = {locations[row]: k for k, row in enumerate(first)}
    located = all({locations[row] for row in rows} == number.keys() for rows in others) and len(number) == len(first)
    slices = np.empty(len(table), np.intp)
    for rows in volumes.values():
        slices[rows] = [number[locations[row]] for row in rows] if located else range(len(rows))
    return slices


def _fill(stack: Stack, told: Sequence[Codes], missing: Missing, duplicates: Duplicates) -> Grid:
    """Return the grid of frames whose place along each dim is known."""
    shape = (*(t.size for t in told), stack.count)
    place = np.ravel_multi_index((*(t.codes for t in told), stack.slices), shape)
    counts = np.bincount(place, minlength=prod(shape))
    axes, start = _axes(told)
    chosen = np.arange(len(place))
    if (counts > 1).any():
        first = np.asarray(by_instance(stack.table), np.intp)
        chosen = first[::-1] if duplicates == "first" else first
        if duplicates == "stack":
            return _stacked(stack, axes, start, place[first], first, shape, missing)
        if duplicates == "error":
            _raise_duplicates(stack, told, place, counts, axes, shape)
        _check_alike(stack, told, place)
    rows = np.full(prod(shape), -1, np.intp)
    rows[place[chosen]] = chosen
    grid = Grid(axes, rows.reshape(shape), start)
    _check_missing(stack, grid, missing)
    return grid


def _add_empty_segments(grid: Grid, table: FrameTable) -> None:
    """Add the segments to a grid that are described and have no frame: nothing was found of them."""
    (k,) = (k for k, axis in enumerate(grid.axes) if axis.name == "segment")
    told = table.distinct("SegmentNumber")
    described = [number for value in told for number in (value if isinstance(value, list) else [value]) if number]
    old = grid.axes[k].labels
    labels = np.union1d(old, np.asarray(described, old.dtype))
    rows = np.full((*grid.rows.shape[:k], len(labels), *grid.rows.shape[k + 1 :]), -1, np.intp)
    rows[(slice(None),) * k + (np.searchsorted(labels, old),)] = grid.rows
    grid.axes[k].labels, grid.rows = labels, rows


def _axes(told: Sequence[Codes]) -> tuple[list[Axis], datetime | None]:
    """Return the labels along each dim, and when the first volume began."""
    axes, start = [], None
    for t in told:
        attrs = {"units": t.way.units} if t.way.units else {}
        attrs["element"] = t.way.elements
        if t.dim.numbered:
            attrs.pop("units", None)
            axes.append(Axis(t.dim.name, np.arange(t.size), attrs, t.coords, t.dim.numbered))
            continue
        if not t.dim.flows:
            distinct, _ = unique_labels(t.labels)
            axes.append(Axis(t.dim.name, np.asarray(distinct), attrs))
            continue
        values = np.asarray(t.labels, float)
        begin = np.full(t.size, np.inf)
        np.minimum.at(begin, t.codes, values)
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
    told: Sequence[Codes],
    place: NDArray[np.intp],
    counts: NDArray[np.intp],
    axes: list[Axis],
    shape: tuple[int, ...],
) -> None:
    """Raise for places with several frames: another dim is wanted, or frames are there twice."""
    taken = np.flatnonzero(counts > 1)
    most, n_twice = int(counts.max()), len(taken)
    apart = differences(stack.table, place, one_place=True)
    names = [t.dim.name for t in told]
    where = "; ".join(_name_place(stack, axes, np.unravel_index(p, shape)) for p in taken[:4])
    where += f" and {n_twice - 4} more" * (n_twice > 4)
    order = ",".join(names) or "none"
    better = _proposal(stack, names)
    proposal = f"Use order={better!r}," if better else "Name a further dim in order=,"
    msg = (
        f"order {order!r} leaves up to {most} frames at one place: {where}.{variation(stack)}\n"
        f"{proposal} or {'keep all' if apart else 'choose'} with {'' if apart else _ONE_OF_THEM}duplicates='stack'"
    )
    raise (OrderError if n_twice == np.count_nonzero(counts) and better else DuplicateFramesError)(msg)


def _check_alike(stack: Stack, told: Sequence[Codes], place: NDArray[np.intp]) -> None:
    """Raise where frames at one place are other acquisitions, of which none may be dropped as a duplicate."""
    names = differences(stack.table, place, one_place=True)
    if names:
        further = {DIRECTION: "dti", B_VALUE: "b"}.get(names[0], names[0])
        order = further if further == "dti" else ",".join([*(t.dim.name for t in told), further])
        msg = (
            f"frames at one place differ in {', '.join(names[:4])}: they are no duplicates. Tell them apart with "
            f"order={order!r}, or leave some of them out with where="
        )
        raise OrderError(msg)
    table = stack.table
    of_files = set(zip(place.tolist(), table.paths, strict=True))
    if len(set(zip(place.tolist(), table.paths, table.frames.tolist(), strict=True))) > len(of_files):
        msg = "several frames of one file are at one place: they are no duplicates. Name a further dim in order="
        raise OrderError(msg)


def _told(stack: Stack, dims: Sequence[TagDim]) -> list[Codes]:
    """Return the number of each frame along each dim; where time alone does not tell, an error says what does."""
    try:
        return tell(stack, dims)
    except NothingTellsError as err:
        better = _proposal(stack, [dim.name for dim in dims])
        advice = f"Use order={better!r}" if better else _NUMBER_THEM
        raise OrderError(f"{err}\n{advice}") from None


def _proposal(stack: Stack, names: Sequence[str]) -> str:
    """Return which order to use; "" where none is known that is another."""
    try:
        wanted = ",".join(dim.name for dim in propose(stack))
    except OrderError:
        return ""
    return "" if wanted == ",".join(names) else wanted


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
    """Raise where places are empty, unless they are to be filled.

    No scanner makes every direction with every b-value, nor trace images of every volume: of such dims a volume that
    is absent as a whole is not missing.
    """
    lacks = grid.rows < 0
    if any(sparse <= {axis.numbered or axis.name for axis in grid.axes} for sparse in _SPARSE):
        lacks = lacks & (grid.rows >= 0).any(axis=-1, keepdims=True)
    empty = np.argwhere(lacks)
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
