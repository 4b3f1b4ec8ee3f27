"""Values so far out that they take the precision of all others when an image is stored as whole numbers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imagedata_xr.dicom.pixels import ValueRange

__all__ = ["warn_of_extremes"]

_LOOK_AT: Final = 20_000
_FEWEST: Final = 8
"""Values of a volume that are looked at to tell extremes, and of how few nothing is said."""
_MOST: Final = (2, 98)
"""Percentiles between which values are no extremes."""


def warn_of_extremes(values: NDArray[Any], found: ValueRange, step: float) -> None:
    """Warn where a few extreme values leave no steps to the others, as where a fit did not converge."""
    some = values.reshape(-1)[:: max(1, values.size // _LOOK_AT)]
    some = some[some != 0]  # the background says nothing
    if some.size < _FEWEST:
        return
    low, high = np.percentile(some, _MOST)
    if 0 < high - low < step:
        warnings.warn(
            f"values from {found.low:g} to {found.high:g} are stored in steps of {step:.3g}, but nearly all lie "
            f"between {low:.6g} and {high:.6g}, and will be one value or two. If the others are of no use, clip them "
            "first, image.clip(min, max), or put NaN in their place and write with nan=0",
            stacklevel=2,
        )
