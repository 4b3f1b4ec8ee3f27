"""``order="auto"``: the tag dims that fill the grid of a stack, if only one choice does."""

from __future__ import annotations

import contextlib
import itertools
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from imagedata_xr.dicom.stacks import is_segmentation
from imagedata_xr.dicom.tags import TagDim, has_segments, tag_dim
from imagedata_xr.dicom.tell import (
    Codes,
    cells_of,
    directions_of,
    identities,
    is_weighted,
    labels_by,
    tell_flowing,
    tell_volumes,
    unique_labels,
    variation,
    varying_elements,
)
from imagedata_xr.dicom.vendors import diffusion
from imagedata_xr.elements import tag, vr_of
from imagedata_xr.errors import MissingFramesError, OrderError
from imagedata_xr.quiet import filtered_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.stacks import Stack

__all__ = ["propose"]

_AUTO_DIMS = ("te", "fa", "b", "image_type", "InversionTime")
_SECOND_CHOICE = (
    *("EchoNumbers", "ReceiveCoilName", "CardiacCyclePosition", "KVP", "ConvolutionKernel", "ASLContext"),
    *("TimeSlotVector", "RRIntervalVector", "EnergyWindowVector", "DetectorVector", "LUTLabel"),
    *("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase"),
)
"""Elements that may vary along with others, and are used only where these do not fill the grid."""
_OF_FLOW = (
    ("VelocityEncodingDirection",),
    ("VelocityEncodingDirection", "VelocityEncodingMaximumValue"),
    ("SequenceName",),
)
"""What tells velocity encodings apart, best first. SequenceName tells much else, and is asked last."""
_MOST_LISTED = 15
_MOST_COMBINED, _MOST_AT_ONCE = 6, 3
"""Elements of which an error combines as many, and of these at most as many, to say what tells frames apart."""
_FUNCTION = "order={name: function}"
_AS_THEY_LIE = "order='none' and duplicates='stack' they lie along a dim 'duplicate'"
_SPARSE = 0.25
"""The part of its places that must be taken for a grid with gaps to be proposed."""
_NEARLY_FULL = 0.75
"""The part of its places that must be taken for a grid to be one with gaps, and not another one."""


def propose(stack: Stack) -> tuple[TagDim, ...]:
    """Return the tag dims that fill the grid of a stack without a gap.

    These are the fewest of the elements that vary within a slice and are not times. Diffusion volumes are numbered
    where several directions share a b-value, or some were measured several times. Time joins where the elements do
    not suffice, or trigger time, and if neither helps, elements of the second choice do, or those of velocity
    encoding. A grid with few gaps is the last resort: sorting by it names the missing frames.

    Raises
    ------
    OrderError
        If no dims, or several, fill the grid; the error lists what varies.
    """
    if has_segments(stack.table):
        return (tag_dim("segment"),)
    # Of a label map empty slices may have no frame.
    is_label_map = is_segmentation(stack.table) and len(stack.table) == len(np.unique(stack.slices))
    if is_label_map or len(stack.table) == stack.count:
        return ()
    varying = _varying(stack, _AUTO_DIMS, ())
    directed = _is_directed(stack)
    found = _volumes(stack, varying) if directed else (_full(stack, varying) or _with_time(stack, varying))
    if found is not None and _leaves_out_b(found, varying):
        found = _volumes(stack, varying) or found
    if found is None:
        found = _with_more(stack, varying, _SECOND_CHOICE)
    if found is None and not directed:
        found = _volumes(stack, varying)
        for names in _OF_FLOW:
            found = found or _with_more(stack, varying, names)
    if found is None:
        found = _nearly(stack, varying)
    if found is not None:
        return found
    frames = f"{len(stack.table)} frames of {stack.count} slice{'s' * (stack.count != 1)}"
    msg = f"no order sorts these {frames} into a full grid.{_table(stack)}\n{_advice(stack)}"
    raise OrderError(msg)


def _leaves_out_b(found: Sequence[TagDim], varying: Sequence[Codes]) -> bool:
    """Whether b-values vary of which dims do not tell, as where some were measured several times."""
    return any(t.dim.name == "b" for t in varying) and not {"b", "dti"} & {dim.name for dim in found}


def _varying(stack: Stack, names: Sequence[str], before: Sequence[Codes]) -> list[Codes]:
    """Return the dims that vary within a slice, without those that tell the same as one before."""
    found: list[Codes] = []
    for name in names:
        dim = tag_dim(name)
        told = next(((w, labels) for w in dim.ways if (labels := labels_by(stack, w)) is not None), None)
        if told is None:
            continue
        way, labels = told
        distinct, codes = unique_labels(labels)
        if any(_same_groups(codes, t.codes) for t in before):
            continue
        if any(len(np.unique(codes[cell])) > 1 for cell in cells_of(stack, ())):
            found.append(Codes(dim, way, labels, codes, len(distinct)))
    return found


def _same_groups(a: NDArray[np.intp], b: NDArray[np.intp]) -> bool:
    """Whether two dims tell the same frames apart."""
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def _full(stack: Stack, varying: Sequence[Codes], needed: Sequence[Codes] = ()) -> tuple[TagDim, ...] | None:
    """Return the fewest dims that fill the grid, with one of those `needed` if there are such.

    Raises
    ------
    OrderError
        If there are several choices.
    """
    for size in range(1, len(varying) + 1):
        fits = [chosen for chosen in itertools.combinations(varying, size) if _is_full(stack, chosen)]
        fits = [chosen for chosen in fits if not needed or any(t in needed for t in chosen)]
        if len(fits) > 1:
            raise _several(stack, [tuple(t.dim for t in chosen) for chosen in fits])
        if fits:
            return tuple(t.dim for t in fits[0])
    return None


def _several(stack: Stack, fits: Sequence[tuple[TagDim, ...]]) -> OrderError:
    names = " or ".join(f"order={','.join(dim.name for dim in dims)!r}" for dims in fits)
    return OrderError(f"several orders sort these {len(stack.table)} frames: use {names}.{variation(stack)}")


def _with_more(stack: Stack, varying: Sequence[Codes], names: Sequence[str]) -> tuple[TagDim, ...] | None:
    """Return the dims that fill the grid with further elements; None where these do not help."""
    more = _varying(stack, names, varying)
    return (_full(stack, [*varying, *more], more) or _with_time(stack, [*varying, *more])) if more else None


def _with_time(stack: Stack, varying: Sequence[Codes]) -> tuple[TagDim, ...] | None:
    """Return time, or trigger time, and as many other dims as fill the grid with it."""
    for size in range(len(varying), -1, -1):
        for chosen in itertools.combinations(varying, size):
            cells = cells_of(stack, chosen)
            shape = stack.count * prod(t.size for t in chosen)
            if len(cells) == shape and len({len(c) for c in cells}) == 1:
                time = _times(stack, chosen)
                if time is not None:
                    return (time.dim, *(t.dim for t in chosen))
    return None


def _is_directed(stack: Stack) -> bool:
    """Whether frames of one slice have one b-value and several gradient directions."""
    found = diffusion(stack.table)
    if not any(found.b) or not is_weighted(stack, found):
        return False
    numbers, vectors = directions_of(found)
    _, levels = unique_labels([-1.0 if b is None else b for b in found.b])
    b = Codes(tag_dim("b"), tag_dim("b").ways[0], [], levels, int(levels.max()) + 1)
    return len(vectors) > 1 and any(len(np.unique(numbers[cell])) > 1 for cell in cells_of(stack, [b]))


def _volumes(stack: Stack, varying: Sequence[Codes]) -> tuple[TagDim, ...] | None:
    """Return the dims that fill the grid together with numbered diffusion volumes.

    Raises
    ------
    OrderError
        If there are several choices.
    """
    dti = tag_dim("dti")
    others = [t for t in varying if t.dim.name != "b"]
    if not any(diffusion(stack.table).b):
        return None
    for size in range(len(others) + 1):
        fits = []
        for chosen in itertools.combinations(others, size):
            try:
                told = tell_volumes(stack, dti, chosen)
            except (OrderError, MissingFramesError):
                continue
            # Trace images are not made of every volume.
            sparse = any(t.dim.name == "image_type" for t in chosen)
            cells = cells_of(stack, [*chosen, told])
            volumes = {tuple(int(t.codes[cell[0]]) for t in (*chosen, told)) for cell in cells}
            places = stack.count * (len(volumes) if sparse else told.size * prod(t.size for t in chosen))
            if len(cells) == places == len(stack.table):
                fits.append((*(t.dim for t in chosen), dti))
        if len(fits) > 1:
            raise _several(stack, fits)
        if fits:
            return fits[0]
    return None


def _is_full(stack: Stack, chosen: Sequence[Codes]) -> bool:
    cells = cells_of(stack, chosen)
    return len(cells) == stack.count * prod(t.size for t in chosen) == len(stack.table)


def _times(stack: Stack, chosen: Sequence[Codes]) -> Codes | None:
    """Return how time is told beside other dims, or trigger time where time is not, or is only counted."""
    found = []
    for name in ("time", "triggertime"):
        with contextlib.suppress(OrderError):
            found.append(tell_flowing(stack, tag_dim(name), chosen, may_count=False))
    return min(found, key=lambda told: told.way.units is None, default=None)


def _nearly(stack: Stack, varying: Sequence[Codes]) -> tuple[TagDim, ...] | None:
    """Return the dims of a grid that would be full but for a few frames missing or there twice.

    Filling the grid then raises an error that names these frames, or does with them what was asked for.
    """
    uids = identities(stack.table)
    if len(set(uids)) == stack.count and not varying:
        return ()
    if _is_directed(stack):
        return _nearly_volumes(stack, varying)
    time = _times(stack, varying)
    for chosen in (list(varying), [time, *varying] if time is not None else None):
        if not chosen:
            continue
        cells = cells_of(stack, chosen)
        places = stack.count * prod(t.size for t in chosen)
        if max(map(len, cells)) == 1 and len(cells) >= _NEARLY_FULL * places:
            return tuple(t.dim for t in chosen)
    return None


def _nearly_volumes(stack: Stack, varying: Sequence[Codes]) -> tuple[TagDim, ...] | None:
    """Return the dims of diffusion volumes of which a few frames are missing."""
    others = [t for t in varying if t.dim.name != "b"]
    try:
        told = tell_volumes(stack, tag_dim("dti"), others)
    except OrderError:
        return None
    cells = len(cells_of(stack, [*others, told]))
    if cells == len(stack.table) >= _NEARLY_FULL * stack.count * told.size * prod(t.size for t in others):
        return (*(t.dim for t in others), told.dim)
    return None


# --- words for errors


def _table(stack: Stack) -> str:
    """Return a line for each element that varies between the frames of a slice: its values, and whether these fit."""
    cells = cells_of(stack, ())
    most, least = max(map(len, cells)), min(map(len, cells))
    size = f"{most} frames" if most == least else f"{least} to {most} frames"
    lines = [f" Each slice has {size}; in one slice these elements vary:"]
    for name, n in varying_elements(stack)[:_MOST_LISTED]:
        column = stack.table.column(tag(name))
        counts = [len({column[i] for i in cell}) for cell in cells]
        each = f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        why = "" if all(len(c) % k == 0 for c, k in zip(cells, counts, strict=True)) else ", which does not divide it"
        lines.append(f"  {name} ({n} values): {each} a slice{why}")
    if len(lines) > 1:
        return "\n".join(lines)
    time, steps = stack.table.first("FrameTime"), stack.table.first("FrameTimeVector")
    told = [f"FrameTime is {time}"] if isinstance(time, int | float) else []
    told += [f"FrameTimeVector has {len(steps)} values"] if isinstance(steps, list) else []
    return " Nothing varies between the frames of one slice" + (f", and {', '.join(told)}" if told else "")


def _advice(stack: Stack) -> str:
    """Return what to try: each of it works as it is said."""
    varying = varying_elements(stack)
    if stack.table.frames.any() and not varying and len(set(stack.table.paths)) == 1:
        return f"With {_AS_THEY_LIE} as they do in the file"
    orders = []
    for name, n in varying:
        if vr_of(tag(name)) in ("DA", "TM", "DT") or n * stack.count != len(stack.table):
            continue
        if _is_full(stack, _varying(stack, (name,), ())):
            orders.append(name)
    with contextlib.suppress(OrderError):
        told = tell_flowing(stack, tag_dim("triggertime"), ())
        # The known name, which has a unit and is written back, and not that of its element.
        orders = ["triggertime", *(name for name in orders if name != told.way.elements)]
    counted = False
    with contextlib.suppress(OrderError), filtered_warnings():
        told = tell_flowing(stack, tag_dim("time"), ())
        counted = told.way.elements == "InstanceNumber"
        orders += [] if counted else ["time"]
    orders = [f"order={name!r}" for name in orders[:3]] or _combined(stack)
    last = "say what to do with missing= and duplicates="
    if orders:
        return f"Use {' or '.join(orders)}, name other dims, or {last}"
    some = _some_of_them(stack)
    if some:
        return f"Open some of them, as with {some}, name the dims with order=, or {last}"
    if varying:
        return f"Name the dims with order=, tell frames apart by a function of the header, {_FUNCTION}, or {last}"
    ways = ["order='time' numbers them in the order of InstanceNumber"] if counted else []
    ways += [f"{_FUNCTION} tells them apart by a function of the header", f"with {_AS_THEY_LIE}"]
    return "; ".join(ways)


def _combined(stack: Stack) -> list[str]:
    """Return which elements together tell the frames of each slice apart: without a gap, or else with missing='fill'.

    Private ones are among them, that are kept of vendors. Those that have more values than a slice has frames, as what
    is computed of pixels, tell slices apart and not volumes.
    """
    most = max(map(len, cells_of(stack, ())))
    names = [*_AUTO_DIMS, *_SECOND_CHOICE]
    names += [name for name, _ in varying_elements(stack) if vr_of(tag(name)) not in ("DA", "TM", "DT", "SQ")]
    names += [f"({t >> 16:04x},{t & 0xFFFF:04x})" for t in stack.table.varying if t >> 16 & 1 and t & 0xFF00]
    few: list[Codes] = []
    for t in _varying(stack, list(dict.fromkeys(names)), ()):
        if t.size <= most and not any(_same_groups(t.codes, other.codes) for other in few):
            few.append(t)
    with_gaps: list[tuple[tuple[int, bool], str]] = []
    for size in range(_MOST_AT_ONCE + 1):
        for chosen in itertools.combinations(few[:_MOST_COMBINED], size):
            for told in (chosen, _and_time(stack, chosen)):
                cells, places = cells_of(stack, told), stack.count * prod(t.size for t in told)
                order = ",".join(t.dim.name for t in told)
                if len(cells) == places == len(stack.table):
                    return [f"order={order!r}"]
                if len(cells) == len(stack.table) >= _SPARSE * places:
                    with_gaps.append(((places, told is chosen), f"order={order!r} with missing='fill'"))
        if with_gaps:
            return [min(with_gaps, key=lambda found: found[0])[1]]
    return []


def _and_time(stack: Stack, chosen: Sequence[Codes]) -> Sequence[Codes]:
    """Return time and other dims, only these where it is not told beside them."""
    if len(chosen) < _MOST_AT_ONCE:
        with contextlib.suppress(OrderError):
            time = tell_flowing(stack, tag_dim("time"), chosen, may_count=False)
            return [time, *chosen] if time.size > 1 else chosen
    return chosen


def _some_of_them(stack: Stack) -> str:
    """Return how to open frames that have one value of an element, where these are one a slice; "" where none are."""
    if stack.table.frames.any():
        return ""
    for name, _ in varying_elements(stack):
        codes, values = stack.table.codes(name)
        parts = [stack.slices[codes == code] for code in range(len(values))]
        if all(len(np.unique(part)) == len(part) for part in parts):
            value = next(value for value in values if value not in (None, ""))
            return f"where=lambda header: header.get({name!r}) == {value!r}"
    return ""
