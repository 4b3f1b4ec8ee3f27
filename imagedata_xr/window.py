"""Values to grey levels and colours as DICOM says pictures are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["header_window", "to_rgb", "window"]

_TAILS = (0.01, 0.999)
"""Parts of the values below black and below white, where no window is given."""


def header_window(da: xr.DataArray) -> tuple[float, float] | None:
    """Return centre and width that the header tells, the first of several; None if it tells none for all frames."""
    found = []
    for name in ("WindowCenter", "WindowWidth"):
        value = da.attrs.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if not isinstance(value, int | float):
            return None
        found.append(float(value))
    return (found[0], found[1]) if found[1] >= 1 else None


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
        Image.
    center, width : float, optional
        The window, in units of the values. By default those of the header, else from the 1st to the 99.9th percentile.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, optional
        By default VOILUTFunction of the header, else LINEAR.

    Raises
    ------
    ValueError
        If only one of center and width is given, or the width is too small.

    Examples
    --------
    >>> window(xr.DataArray([0.0, 50.0, 100.0]), 50, 100, function="LINEAR_EXACT").values
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if (center is None) != (width is None):
        msg = f"a window has a centre and a width; center={center}, width={width} were given"
        raise ValueError(msg)
    kind = function or str(da.attrs.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if center is None or width is None:
        known = header_window(da)
        if known is None:
            kind = "LINEAR_EXACT"
        center, width = known or _window_of_values(da)
    least = 1 if kind == "LINEAR" else 0
    if width < least or width <= 0:
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
    if da.encoding.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = 1 - shown
    return shown.assign_attrs(da.attrs)


def _window_of_values(da: xr.DataArray) -> tuple[float, float]:
    """Return centre and width that show nearly all values."""
    values = da.values
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.5, 1.0
    low, high = (float(v) for v in np.quantile(finite, _TAILS))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return (low + high) / 2, max(high - low, 1e-6)


def to_rgb(da: xr.DataArray, colormap: str | None = None, **options: Any) -> xr.DataArray:
    """Return an image as colours of 8 bits, with a last dim ``rgb``.

    Parameters
    ----------
    da : DataArray
        Image; colours come back as they are.
    colormap : str, optional
        Palette of 256 colours of `bokeh.palettes`, such as ``"Viridis256"`` or ``"Magma256"``; None is grey.
    **options
        Of `window`.

    Raises
    ------
    ValueError
        If there is no such palette.
    """
    if "rgb" in da.dims:
        return da
    levels = (window(da, **options) * 255).round().astype(np.uint8)
    if colormap is None:
        return levels.expand_dims(rgb=3, axis=-1).copy()
    from bokeh import palettes

    colours = getattr(palettes, colormap, None)
    if not isinstance(colours, tuple) or len(colours) != 256:
        msg = (
            f"{colormap!r} is no palette of 256 colours; Viridis256, Magma256, Inferno256, Cividis256 and Turbo256 are"
        )
        raise ValueError(msg)
    table: NDArray[np.uint8] = np.asarray([[int(c[n : n + 2], 16) for n in (1, 3, 5)] for c in colours], np.uint8)
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
