"""Outer indexes: a number, slice or array for each axis of an array, as xarray's lazy arrays ask for parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_all", "outer_part", "rows_between"]


def rows_between(key: Any, size: int) -> tuple[int, int, Any]:
    """Return the first row that an index asks for, how many there are up to the last, and the index among these."""
    asked = np.arange(size)[key]
    if not asked.size:
        return 0, 0, asked
    top = int(asked.min())
    return top, int(asked.max()) + 1 - top, slice(None, None, key.step) if isinstance(key, slice) else asked - top


def is_all(key: Any, size: int) -> bool:
    """Return whether an index along one axis takes all there is, in its order."""
    return isinstance(key, slice) and range(size)[key] == range(size)


def outer_part(values: NDArray[Any], key: tuple[Any, ...]) -> NDArray[Any]:
    """Return the part of an array at an outer index: a number, slice or array for each axis."""
    for axis in range(len(key) - 1, -1, -1):
        values = values[(slice(None),) * axis + (key[axis],)]
    return values
