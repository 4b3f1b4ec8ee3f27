"""``order="auto"``: the tag dims that fill the grid of a stack, if only one choice does."""

from __future__ import annotations

import itertools
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from imagedata_xr.dicom.tags import TagDim, tag_dim
from imagedata_xr.dicom.tell import Codes, cells_of, identities, labels_by, tell_flowing, unique_labels, variation
from imagedata_xr.errors import OrderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagedata_xr.dicom.stacks import Stack

__all__ = ["propose"]

_AUTO_DIMS = ("te", "fa", "b", "image_type", "InversionTime")
_NEARLY_FULL = 0.75
"""The part of its places that must be taken for a grid to be one with gaps, and not another one."""


def propose(stack: Stack) -> tuple[TagDim, ...]:
    """Return the tag dims that fill the grid of a stack without a gap.

    Elements that vary within a slice and are not times must all be used, unless one of them tells the same as
    others. Time joins where they do not suffice.
    """
    if stack.orientation is None or len(stack.table) == stack.count:
        return ()
    varying: list[Codes] = []
    for name in _AUTO_DIMS:
        dim = tag_dim(name)
        labels = next((found for way in dim.ways if (found := labels_by(stack, way)) is not None), None)
        if labels is None:
            continue
        distinct, codes = unique_labels(labels)
        if any(len(np.unique(codes[cell])) > 1 for cell in cells_of(stack, ())):
            varying.append(Codes(dim, dim.ways[0], labels, codes, len(distinct)))
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
            cells = cells_of(stack, chosen)
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


def _is_full(stack: Stack, chosen: Sequence[Codes]) -> bool:
    cells = cells_of(stack, chosen)
    return len(cells) == stack.count * prod(t.size for t in chosen) == len(stack.table)


def _times(stack: Stack, chosen: Sequence[Codes]) -> Codes | None:
    """Return how time is told beside other dims; None where it is not."""
    try:
        return tell_flowing(stack, tag_dim("time"), chosen, may_count=False)
    except OrderError:
        return None


def _nearly(stack: Stack, varying: Sequence[Codes]) -> tuple[TagDim, ...] | None:
    """Return the dims of a grid that would be full but for a few frames missing or there twice.

    Filling the grid then raises an error that names these frames, or does with them what was asked for.
    """
    uids = identities(stack.table)
    if len(set(uids)) == stack.count and not varying:
        return ()
    time = _times(stack, varying)
    for chosen in (list(varying), [time, *varying] if time is not None else None):
        if not chosen:
            continue
        cells = cells_of(stack, chosen)
        places = stack.count * prod(t.size for t in chosen)
        if max(map(len, cells)) == 1 and len(cells) >= _NEARLY_FULL * places:
            return tuple(t.dim for t in chosen)
    return None
