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

    Parameters
    ----------
    colours : array or DataArray
        Colours.

    Raises
    ------
    ValueError
        If they are neither: they were computed, and nothing tells which value is the brightest, nor whether what is
        beyond it may go.

    Examples
    --------
    >>> colour_levels(np.array([0, 256, 65535], np.uint16)).tolist()
    [0, 1, 255]
    """
    if colours.dtype == np.uint16:
        return (colours >> 8).astype(np.uint8)
    if colours.dtype != np.uint8:
        msg = (
            f"colours are {colours.dtype}, and nothing tells which value is the brightest; uint8 or uint16 is wanted: "
            "image.round().clip(0, 255).astype('uint8'), of what goes from 0 to 1 after image * 255"
        )
        raise ValueError(msg)
    return colours
