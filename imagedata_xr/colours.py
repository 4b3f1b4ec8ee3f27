"""Colours as pictures show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["colour_levels"]

_Colours = TypeVar("_Colours", "NDArray[Any]", "xr.DataArray")


def colour_levels(colours: _Colours) -> _Colours:
    """Return colours as they are shown, in 8 bits.

    Those of 8 bits are shown as they are, of those of 16 bits without sign (uint16), as files have them, the upper 8.
    Other whole numbers were computed from colours of 8 bits: what is below 0 is shown as 0, what is above 255 as 255.

    Parameters
    ----------
    colours : array or DataArray
        Colours.

    Raises
    ------
    ValueError
        If they are no whole numbers: nothing tells whether they go to 1 or to 255.

    Examples
    --------
    >>> colour_levels(np.array([-6, 50, 260], np.int16)).tolist(), colour_levels(np.array([65535], np.uint16)).tolist()
    ([0, 50, 255], [255])
    """
    if colours.dtype.kind not in "iu":
        msg = (
            f"colours are {colours.dtype}, and nothing tells which value is the brightest; whole numbers from 0 to 255 "
            "are wanted: image.round().clip(0, 255).astype('uint8'), of what goes from 0 to 1 after image * 255"
        )
        raise ValueError(msg)
    if colours.dtype == np.uint16:
        colours = colours >> 8
    return colours if colours.dtype == np.uint8 else colours.clip(0, 255).astype(np.uint8)
