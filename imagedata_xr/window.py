"""Values to grey levels and colours as DICOM says pictures are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr.names import POLARITY, WINDOW_KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "grey_levels",
    "header_window",
    "is_inverted",
    "limits",
    "palette",
    "polarity",
    "to_rgb",
    "window",
    "windows_fit",
]

_FUNCTIONS: Final = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
"""Defined terms of VOILUTFunction (PS3.3 C.11.2.1.3)."""
_TAILS: Final = (0.01, 0.999)
"""Parts of the values below black and below white, where no window is given."""


def polarity(da: xr.DataArray) -> str | None:
    """Return PhotometricInterpretation of an image as attrs say, else as it was stored; None where neither tells it.

    Of a mask it is MONOCHROME2, whatever the image that it was computed from: True is white.
    """
    if da.dtype.kind == "b":
        return "MONOCHROME2"
    told = da.attrs.get(POLARITY, da.encoding.get(POLARITY))
    return None if told is None else str(told)


def is_inverted(da: xr.DataArray) -> bool:
    """Return whether the lowest value of an image is white (PS3.3 C.7.6.3.1.2)."""
    return polarity(da) == "MONOCHROME1"


def header_window(da: xr.DataArray, limits_of: Callable[[], tuple[float, float]]) -> tuple[float, float] | None:
    """Return centre and width that the header tells, the first of several; None if it tells none for all frames.

    None, too, where values were computed and the windows cannot be theirs, by the rule of written files: at least half
    of each has to lie within the range of the values.

    Parameters
    ----------
    da : DataArray
        Image.
    limits_of : callable
        Returns the smallest and the largest value; called only where values are not those of files.
    """
    centers, widths = (_numbers(da, name) for name in WINDOW_KEYWORDS[:2])
    if not centers or not widths:
        return None
    if not _is_wide_enough(widths[0], str(da.attrs.get("VOILUTFunction") or "LINEAR")):
        return None
    if "TransferSyntaxUID" not in da.encoding:
        low, high = limits_of()
        if not windows_fit(np.asarray(centers), np.asarray(widths), low, high):
            return None
    return centers[0], widths[0]


def windows_fit(centers: NDArray[np.float64], widths: NDArray[np.float64], low: float, high: float) -> bool:
    """Return whether at least half of each window lies within the range of the values."""
    if centers.shape != widths.shape:
        return False
    inside = np.minimum(centers + widths / 2, high) - np.maximum(centers - widths / 2, low)
    return bool((inside >= widths / 2).all())


def _numbers(da: xr.DataArray, name: str) -> list[float]:
    """Return the numbers of an element; none where one is no number."""
    told = da.attrs.get(name)
    values: list[Any] = told if isinstance(told, list) else [told]
    return [float(v) for v in values] if all(isinstance(v, int | float) for v in values) else []


def _is_wide_enough(width: float, kind: str) -> bool:
    """Whether a window may have this width (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    return width >= 1 if kind == "LINEAR" else width > 0


def window(
    da: xr.DataArray,
    center: float | None = None,
    width: float | None = None,
    *,
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] | None = None,
) -> xr.DataArray:
    """Return values from 0 (black) to 1 (white) by a window, as float32, lazily where the image is of dask.

    Source: DICOM PS3.3 C.11.2.1.2 (window) and C.7.6.3.1.2 (MONOCHROME1, whose lowest value is white).

    Parameters
    ----------
    da : DataArray
        Image; of complex values the magnitude.
    center, width : float, optional
        The window, in units of the values. By default that of the header, unless values were computed and it cannot be
        theirs, for less than half of it is in their range; else from the 1st to the 99.9th percentile.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, optional
        By default VOILUTFunction of the header, else LINEAR.

    Raises
    ------
    ValueError
        If only one of center and width is given, one is no number, the width too small, or there is no such function.

    Examples
    --------
    >>> window(xr.DataArray([0.0, 50.0, 100.0]), 50, 100, function="LINEAR_EXACT").values
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if (center is None) != (width is None):
        msg = f"a window has a centre and a width; center={center}, width={width} were given"
        raise ValueError(msg)
    if center is not None and not np.isfinite(center):
        msg = f"the centre of the window is {center}; a number is wanted"
        raise ValueError(msg)
    if function is not None and function not in _FUNCTIONS:
        msg = f"function={function!r}: it is {', '.join(map(repr, _FUNCTIONS))}, as VOILUTFunction"
        raise ValueError(msg)
    if da.dtype.kind == "c":
        da = abs(da)
    kind = function or str(da.attrs.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if center is None or width is None:
        known = header_window(da, lambda: limits(da))
        if known is None:
            kind = "LINEAR_EXACT"
        center, width = known or _window_of_values(da)
    if not _is_wide_enough(width, kind):
        msg = f"the width of a {kind} window is {width}; it has to be more than 0, and at least 1 for LINEAR"
        raise ValueError(msg)
    values: xr.DataArray = da.astype(np.float32)
    shown: xr.DataArray
    if kind == "SIGMOID":
        shown = 1 / (1 + xr.ufuncs.exp(-4 * (values - center) / width))
    elif kind == "LINEAR_EXACT":
        shown = (values - center) / width + 0.5
    elif width == 1:
        shown = values > center - 0.5
    else:
        shown = (values - (center - 0.5)) / (width - 1) + 0.5
    shown = shown.astype(np.float32).clip(0, 1)
    if is_inverted(da):
        shown = 1 - shown
    return shown.assign_attrs({**da.attrs, POLARITY: "MONOCHROME2"})  # 0 is black


def limits(da: xr.DataArray) -> tuple[float, float]:
    """Return the smallest and the largest finite value; NaN where there is none."""
    finite = da if da.dtype.kind in "iub" else da.where(np.isfinite(da))
    both = xr.Dataset({"low": finite.min(), "high": finite.max()}).compute()  # what is of dask is read once
    return float(both["low"]), float(both["high"])


def _window_of_values(da: xr.DataArray) -> tuple[float, float]:
    """Return centre and width that show nearly all values."""
    if da.dtype.kind == "b":
        return 0.5, 1.0  # also where all is True, or nothing
    values = da.values
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.5, 1.0
    low, high = (float(v) for v in np.quantile(finite, _TAILS))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    if high <= low:  # black, as in the viewer
        high = low + max(1.0, abs(low) / 1e6)
    return (low + high) / 2, high - low


def grey_levels(da: xr.DataArray, *args: Any, **options: Any) -> xr.DataArray:
    """Return an image as grey levels of 8 bits, see `window`; NaN, as where there is no value, is black.

    Examples
    --------
    >>> grey_levels(xr.DataArray([0.0, 1.0, np.nan]), center=0.5, width=1).values.tolist()
    [0, 255, 0]
    """
    return (window(da, *args, **options) * 255).round().fillna(0).astype(np.uint8)


def to_rgb(da: xr.DataArray, colormap: str | None = None, **options: Any) -> xr.DataArray:
    """Return an image as colours of 8 bits, with a last dim ``rgb``.

    Parameters
    ----------
    da : DataArray
        Image; colours come back as they are, those of 16 bits, too.
    colormap : str, optional
        Palette of 256 colours of `bokeh.palettes`, such as ``"Viridis256"`` or ``"Magma256"``; None is grey.
    **options
        Of `window`.

    Raises
    ------
    ValueError
        If there is no such palette.
    """
    table = None if colormap is None else palette(colormap)
    if "rgb" in da.dims:
        return da
    levels = grey_levels(da, **options)
    levels.attrs[POLARITY] = "RGB"
    if table is None:
        return levels.expand_dims(rgb=3, axis=-1).copy()
    coloured: xr.DataArray = xr.apply_ufunc(
        lambda values: table[values],
        levels,
        output_core_dims=[["rgb"]],
        keep_attrs=True,
        dask="parallelized",
        output_dtypes=[np.uint8],
        dask_gufunc_kwargs={"output_sizes": {"rgb": 3}},
    )
    return coloured


def palette(colormap: str) -> NDArray[np.uint8]:
    """Return red, green and blue of 256 colours.

    Raises
    ------
    ValueError
        If there is no such palette.
    """
    from bokeh import palettes

    known = sorted(name for name in dir(palettes) if name.endswith("256"))
    if colormap not in known:
        msg = f"{colormap!r} is no palette of 256 colours; {', '.join(known)} are"
        raise ValueError(msg)
    return np.asarray([[int(c[n : n + 2], 16) for n in (1, 3, 5)] for c in getattr(palettes, colormap)], np.uint8)
