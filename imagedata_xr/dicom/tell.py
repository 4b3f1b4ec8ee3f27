"""How a tag dim tells the frames of a stack apart: the label of each, and its number along the dim."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from imagedata_xr.dicom.tags import Label, TagDim, WayToTell, meant, tag_dim
from imagedata_xr.dicom.vendors import diffusion
from imagedata_xr.elements import keyword, tag
from imagedata_xr.errors import MissingFramesError, OrderError
from imagedata_xr.names import SAME_DIRECTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.stacks import Stack
    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.dicom.vendors import Diffusion, Direction

__all__ = [
    "Codes",
    "NothingTellsError",
    "acquired",
    "cells_of",
    "directions_of",
    "identities",
    "is_weighted",
    "labels_by",
    "tell",
    "tell_flowing",
    "tell_volumes",
    "unique_labels",
    "variation",
    "varying_elements",
]

_NO_B = -1.0
"""Stands for the b-value of an image that has none."""
_SAME_STEP = 1.5
"""How many times as long as the shortest the longest step of a cine may be; where a frame lacks it is twice as long."""
_SAME_BEAT = 1.75
"""How many times as long as the shortest the longest heart beat of a cine may be."""
_NO_REPETITION = (
    *("EchoTime", "EffectiveEchoTime", "FlipAngle", "InversionTime", "ReceiveCoilName", "CardiacCyclePosition"),
    "InPlanePhaseEncodingDirection",
)
_SHORT = {"EchoTime": "te", "EffectiveEchoTime": "te", "FlipAngle": "fa"}
_UNTOLD = frozenset(
    ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SliceLocation", "ImageOrientationPatient")
)


class NothingTellsError(OrderError):
    """No element of its own tells the frames of a slice apart; several together may."""


@dataclass(eq=False)
class Codes:
    """A tag dim told in one way: the label of each frame, and its number along the dim."""

    dim: TagDim
    way: WayToTell
    labels: list[Label]
    codes: NDArray[np.intp]
    size: int
    coords: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """What is known of each number along the dim, such as its b-value; of labels that are numbers only."""


def identities(table: FrameTable) -> list[str]:
    """Return what names each frame: SOPInstanceUID, and number and tile in its file; "" where it has no UID."""
    places = zip(table.frames.tolist(), table.tiles.tolist(), strict=True)
    return [f"{uid} {place}" if uid else "" for uid, place in zip(table.values("SOPInstanceUID"), places, strict=True)]


def labels_by(stack: Stack, way: WayToTell) -> list[Label] | None:
    """Return the label of each frame; None where a frame has none."""
    labels = way.labels(stack.table)
    return None if None in labels else cast("list[Label]", labels)


def unique_labels(labels: Sequence[Label]) -> tuple[list[Label], NDArray[np.intp]]:
    """Return the distinct labels in ascending order (magnitude before other kinds of image), and the number of each."""
    kinds = {isinstance(label, str) for label in labels}
    keys = [str(label) for label in labels] if len(kinds) > 1 else labels
    distinct = sorted(set(keys), key=_rank)
    number = {label: k for k, label in enumerate(distinct)}
    return list(distinct), np.asarray([number[label] for label in keys], np.intp)


def _rank(label: Label) -> tuple[bool, Label]:
    return str(label).split("_")[0] not in ("M", "MAGNITUDE"), label


def cells_of(stack: Stack, told: Sequence[Codes]) -> list[NDArray[np.intp]]:
    """Return the frames of each slice (and each label of the dims told)."""
    key = stack.slices.astype(np.intp)
    for t in told:
        key = key * t.size + t.codes
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def tell(stack: Stack, dims: Sequence[TagDim]) -> list[Codes]:
    """Return how each dim is told, in the order of `dims`.

    Raises
    ------
    OrderError
        If a dim is not told for all frames, or would mix what has to be told apart.
    MissingFramesError
        If repetitions of diffusion volumes cannot be told apart since some are missing.
    """
    told: dict[str, Codes] = {}
    for dim in dims:
        if dim.numbered == "bvector":
            told[dim.name] = _tell_directions(stack, dim)
        if dim.flows or dim.numbered:
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
        if dim.numbered == "dti":
            told[dim.name] = tell_volumes(stack, dim, list(told.values()))
    for dim in dims:
        if dim.flows:
            told[dim.name] = tell_flowing(stack, dim, list(told.values()))
    if any(dim.numbered for dim in dims):
        for doubt in diffusion(stack.table).doubts:
            warnings.warn(doubt, stacklevel=6)
    return [told[dim.name] for dim in dims]


def tell_flowing(stack: Stack, dim: TagDim, told: Sequence[Codes], *, may_count: bool = True) -> Codes:
    """Return the codes of a dim whose labels go on within a volume: the first way that tells volumes apart.

    Where a user asks for a dim (`may_count`), the phases of each slice of a cine may be counted; and volumes, with a
    warning, where no element tells time.

    Raises
    ------
    OrderError
        If no way tells all frames of a slice apart, or the volumes overlap.
    """
    cells, reasons, contradicted, lost = cells_of(stack, told), list[str](), False, ""
    why = "they overlap, or take their slices in other orders"
    cell_of = np.empty(len(stack.slices), np.intp)
    cell_of[np.concatenate(cells)] = np.repeat(np.arange(len(cells)), list(map(len, cells)))
    for way in dim.ways:
        labels = labels_by(stack, way) if may_count or not way.on_request else None
        if labels is None:
            continue
        values = np.asarray(labels, float)
        if _twice(values, cell_of):
            reasons.append(f"{way.elements} is the same in several frames of one slice")
            continue
        codes = _volumes(values, cells)
        if codes is None and may_count and dim.name == "triggertime":
            codes = _phases(stack, values, cells)
        if codes is None:
            reasons.append(f"{way.elements} does not separate the volumes: {why}")
            contradicted = True
            if way.is_clock and not way.elements.startswith("Content"):
                lost = lost or way.elements
            continue
        is_content = way.elements.startswith("Content")
        if may_count and lost and (way.units is None or is_content):
            what = "when pixels were made, which need not be when they were acquired"
            warnings.warn(
                f"{lost} tells times, but does not separate the volumes: {why}. They are those of {way.elements}, "
                f"{what if is_content else 'whose numbers are no seconds'}",
                stacklevel=6,
            )
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
        orders = _instead(stack, dim, told, cells)
        if not orders:
            raise NothingTellsError(msg)
        msg = f"{msg}\nUse {' or '.join(f'order={order!r}' for order in orders)}"
    raise OrderError(msg)


def _instead(stack: Stack, dim: TagDim, told: Sequence[Codes], cells: Sequence[NDArray[np.intp]]) -> list[str]:
    """Return which orders tell the frames of each slice apart where a dim that flows does not."""
    names = []
    if dim.name == "time":
        with suppress(OrderError):
            tell_flowing(stack, tag_dim("triggertime"), told)
            names.append("triggertime")
    for name, count in varying_elements(stack):
        column = stack.table.column(tag(name))
        if name != "TriggerTime" and all(len({column[i] for i in cell}) == len(cell) == count for cell in cells):
            names.append(name)
    return [",".join([*(t.dim.name for t in told), name]) for name in names[:3]]


def _twice(values: NDArray[np.float64], cell_of: NDArray[np.intp]) -> bool:
    """Whether some cell has a value, or NaN, more than once."""
    order = np.lexsort((values, cell_of))
    ordered, cells = values[order], cell_of[order]
    same = (ordered[1:] == ordered[:-1]) | (np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    return bool((same & (cells[1:] == cells[:-1])).any())


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
    # Scanners take the slices in one order in all volumes; another one says that some volumes lack frames. Of slices
    # that have one time in a volume the next volume tells.
    turn = ranked[np.lexsort(ranked.T[::-1])]
    if (np.diff(turn, axis=0) < 0).any() and not (len(complete) == len(cells) and _goes_to_and_fro(turn)):
        return None
    # Frames of slices that lack some are placed by the middle of the pause between volumes.
    borders = (high[:-1] + low[1:]) / 2
    for cell in cells:
        mine = np.searchsorted(borders, values[cell])
        if len(np.unique(mine)) < len(cell):
            return None
        codes[cell] = mine
    return codes


def _goes_to_and_fro(turn: NDArray[np.float64]) -> bool:
    """Return whether each volume takes its slices in the reverse order of the one before, as a table that shuttles.

    `turn` has the times of each slice, sorted, of slices in the order of the first volume. Where slices lack the frames
    of different volumes, theirs are shifted by one, and the order is another. Two volumes are too few to tell that.
    """
    to, fro = np.diff(turn[:, 0::2], axis=0), np.diff(turn[:, 1::2], axis=0)
    return turn.shape[1] > 2 and bool((to >= 0).all() and (fro <= 0).all())


def _phases(stack: Stack, values: NDArray[np.float64], cells: Sequence[NDArray[np.intp]]) -> NDArray[np.intp] | None:
    """Return the phase of each frame of a cine whose slices have heart beats of different length; None if in doubt.

    Each slice is acquired by itself, and its frames are counted. That is believed only where all slices have as many,
    begin alike and go on in even steps: a frame that lacks would move those after it, and leave a longer step.
    """
    count = max(map(len, cells))
    told = {v for v in stack.table.distinct("CardiacNumberOfImages") if isinstance(v, int)}
    if count < 3 or min(map(len, cells)) < count or told - {count}:
        return None
    ranked = np.stack([np.sort(values[cell]) for cell in cells])
    steps = np.diff(ranked, axis=1)
    even = steps.max(axis=1) < _SAME_STEP * steps.min(axis=1)
    means = steps.mean(axis=1)
    if not even.all() or means.max() > _SAME_BEAT * means.min() or np.ptp(ranked[:, 0]) > steps.min() / 2:
        return None
    codes = np.empty(len(values), np.intp)
    for cell in cells:
        codes[cell[np.argsort(values[cell])]] = np.arange(count)
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


# --- diffusion


def acquired(stack: Stack) -> NDArray[np.intp]:
    """Return the frames in the order of InstanceNumber, then of time, then of files and their frames."""
    table = stack.table
    numbers = [v if isinstance(v, int) else 0 for v in table.values("InstanceNumber")]
    clock = next(way for way in tag_dim("time").ways if way.elements == "AcquisitionDate + AcquisitionTime")
    times = [v if isinstance(v, float) else 0.0 for v in clock.labels(table)]
    places = list(zip(numbers, times, table.paths, table.frames.tolist(), strict=True))
    return np.asarray(sorted(range(len(places)), key=places.__getitem__), np.intp)


def directions_of(found: Diffusion) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the number of each frame's gradient direction, 0 for none, and the directions, shape (number, 3).

    Directions within about a degree are one: scanners write those of one table a little differently with each b-value.
    Opposite ones are two.
    """
    known = [(np.nan, np.nan, np.nan)]
    numbers: dict[Direction | None, int] = {None: 0}
    for vector in found.directions:
        if vector is None or vector in numbers:
            continue
        apart = np.abs(np.asarray(known) - vector).max(axis=1)
        near = np.flatnonzero(apart <= SAME_DIRECTION)
        numbers[vector] = int(near[0]) if near.size else len(known)
        if not near.size:
            known.append(vector)
    return np.asarray([numbers[vector] for vector in found.directions], np.intp), np.asarray(known, float)


def _tell_directions(stack: Stack, dim: TagDim) -> Codes:
    """Return the gradient directions as numbers; the first is that of frames without one, if there are such."""
    found = diffusion(stack.table)
    codes, vectors = directions_of(found)
    if len(vectors) == 1:
        raise OrderError(_absent(stack, dim))
    if codes.min() > 0:
        codes, vectors = codes - 1, vectors[1:]
    order = np.argsort([np.flatnonzero(codes[acquired(stack)] == k)[0] for k in range(len(vectors))], kind="stable")
    if np.isnan(vectors[0, 0]):
        order = np.concatenate([[0], order[order != 0]])
    codes = np.argsort(order)[codes]
    labels: list[Label] = [int(code) for code in codes]
    return Codes(dim, dim.ways[0], labels, codes, len(vectors), _vector_coords(vectors[order]))


def _vector_coords(vectors: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {name: vectors[:, k] for k, name in enumerate(("bx", "by", "bz"))}


def tell_volumes(stack: Stack, dim: TagDim, told: Sequence[Codes]) -> Codes:
    """Return the diffusion volumes as numbers in the order of acquisition, each of one b-value and direction.

    Frames of one slice with the same b-value and direction are repetitions, and belong to volumes of their own.

    Raises
    ------
    OrderError
        If frames have no b-value, or such repetitions are told apart by other elements.
    MissingFramesError
        If some slices have more repetitions than others: nobody knows which one they lack.
    """
    table = stack.table
    found = diffusion(table)
    if all(b is None for b in found.b):
        raise OrderError(_absent(stack, dim))
    _check_kinds(stack, dim, told)
    if not is_weighted(stack, found):
        raise OrderError(_absent(stack, dim))
    distinct, levels = unique_labels([_NO_B if b is None else b for b in found.b])
    numbers, vectors = directions_of(found)
    b = Codes(dim, dim.ways[0], [], levels, len(distinct))
    direction = Codes(dim, dim.ways[0], [], numbers, len(vectors))
    order = acquired(stack)
    rank = np.argsort(order)
    repetition = np.empty(len(table), np.intp)
    cells = cells_of(stack, [*told, b, direction])
    _check_repetitions(stack, dim, told, cells)
    for cell in cells:
        repetition[cell[np.argsort(rank[cell])]] = np.arange(len(cell))
    counts: dict[tuple[int, ...], set[int]] = {}
    for cell in cells:
        key = (*(int(t.codes[cell[0]]) for t in told), int(levels[cell[0]]), int(numbers[cell[0]]))
        counts.setdefault(key, set()).add(len(cell))
    for key, sizes in counts.items():
        if len(sizes) > 1:
            where = f"b {distinct[key[-2]]:g} s/mm2"
            if key[-1]:
                where += f", direction {vectors[key[-1]].round(3).tolist()}"
            msg = (
                f"some slices have {max(sizes)} frames of {where}, others {min(sizes)}: the repetitions cannot be told "
                "apart. Get the missing frames, or leave the others out with where="
            )
            raise MissingFramesError(msg)
    keys = list(zip(levels.tolist(), numbers.tolist(), repetition.tolist(), strict=True))
    volumes = {key: k for k, key in enumerate(dict.fromkeys(keys[row] for row in order))}
    codes = np.asarray([volumes[key] for key in keys], np.intp)
    labels: list[Label] = [int(code) for code in codes]
    levels_of = np.asarray([distinct[key[0]] for key in volumes], float)
    coords = {"b": np.where(levels_of == _NO_B, np.nan, levels_of)}
    coords |= _vector_coords(vectors[[key[1] for key in volumes]])
    return Codes(dim, dim.ways[0], labels, codes, len(volumes), coords)


def is_weighted(stack: Stack, found: Diffusion) -> bool:
    """Whether frames have b-values, all but those of whole kinds of image without, such as ADC maps."""
    lack = [b is None for b in found.b]
    if all(lack):
        return False
    kinds = labels_by(stack, tag_dim("image_type").ways[0]) or [""] * len(lack)
    with_b = {kind for kind, without in zip(kinds, lack, strict=True) if not without}
    return not any(without and kind in with_b for kind, without in zip(kinds, lack, strict=True))


def _check_kinds(stack: Stack, dim: TagDim, told: Sequence[Codes]) -> None:
    """Raise where trace, ADC or phase images are among the frames, and no dim tells them apart."""
    kinds = tag_dim("image_type")
    if any(t.dim.ways == kinds.ways for t in told):
        return
    labels = labels_by(stack, kinds.ways[0]) or []
    if len(set(labels)) > 1:
        order = ",".join([*(t.dim.name for t in told), "image_type", dim.name])
        several = ", ".join(sorted({str(label) or "(none)" for label in labels}))
        msg = f"order {dim.name!r} would mix kinds of image (ImageType {several}); tell them apart with order={order!r}"
        raise OrderError(msg)


def _check_repetitions(stack: Stack, dim: TagDim, told: Sequence[Codes], cells: Sequence[NDArray[np.intp]]) -> None:
    """Raise where frames of one b-value and direction differ in an element that makes them other acquisitions."""
    for name in _NO_REPETITION:
        column = stack.table.column(tag(name))
        if any(len({column[i] for i in cell}) > 1 for cell in cells if len(cell) > 1):
            order = ",".join([*(t.dim.name for t in told), _SHORT.get(name, name), dim.name])
            msg = f"frames of one b-value and direction differ in {name}; tell them apart with order={order!r}"
            raise OrderError(msg)


def varying_elements(stack: Stack) -> list[tuple[str, int]]:
    """Return the elements that vary between the frames of one slice with their number of values, fewest first."""
    cells = cells_of(stack, ())
    found = []
    for number in stack.table.varying:
        name = keyword(number)
        if not name or name in _UNTOLD or name.endswith("UID"):
            continue
        column = stack.table.column(number)
        if any(len({column[i] for i in cell}) > 1 for cell in cells):
            found.append((name, len(set(column))))
    return sorted(found, key=lambda f: f[1])


def variation(stack: Stack) -> str:
    """Return the elements that vary between the frames of one slice, and how many values each has."""
    found = varying_elements(stack)
    if not found:
        return " Nothing else varies between frames of one slice"
    listed = ", ".join(f"{name} ({n} values)" for name, n in found[:12])
    return f" What varies within a slice of {max(map(len, cells_of(stack, ())))} frames: {listed}"


def _absent(stack: Stack, dim: TagDim) -> str:
    ways = " or ".join(way.elements for way in dim.ways)
    some = [way for way in dim.ways if any(label is not None for label in way.labels(stack.table))]
    if some:
        have = sum(label is not None for label in some[0].labels(stack.table))
        lack = f"which {len(stack.table) - have} of the {len(stack.table)} frames lack"
    else:
        lack = f"which none of the {len(stack.table)} frames has{meant(dim.name)}"
    return f"order {dim.name!r} needs {ways}, {lack}.{variation(stack)}"
