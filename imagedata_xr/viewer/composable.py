"""Images as elements of holoviews, to be composed with others; `imagedata_xr.view` browses faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imagedata_xr.viewer.panel import frame_values, make_panel
from imagedata_xr.window import is_inverted

if TYPE_CHECKING:
    import xarray as xr

    from imagedata_xr.viewer.panel import Panel

__all__ = ["hv_image"]

_SIGMOID_BEYOND = 2
"""Widths of a window on either side, where a sigmoid is black and white."""


def hv_image(da: xr.DataArray, *, window: tuple[float, float] | None = None, size: int = 384, **options: Any) -> Any:
    """Return an image as a `holoviews.DynamicMap` over its tag dims and slices, or one `holoviews.Image` without any.

    Axes are mm along columns and rows, at a true aspect. A frame is read when it is shown. Every step goes through
    Python, which takes several times as long as in `imagedata_xr.view`, and resets the window; it is for composing.

    Parameters
    ----------
    da : DataArray
        Image.
    window : (centre, width), optional
        As of `imagedata_xr.view`.
    size : int
        Height of the frame [pixels].
    **options
        Of `holoviews.Image`, such as ``cmap``: a palette that is given goes from black to white of the window as it is,
        whatever PhotometricInterpretation and VOILUTFunction say.

    Raises
    ------
    GeometryError
        If there are no dims row and col.

    Examples
    --------
    >>> import xarray as xr
    >>> image = xr.DataArray(np.arange(24.0).reshape(2, 3, 4), dims=("time", "row", "col"))
    >>> hv_image(image)[1].data["value"].shape
    (3, 4)
    """
    import holoviews as hv
    import holoviews.plotting.bokeh

    panel = make_panel(da, window)
    shape, (_, dy, dx) = panel.shape, panel.place.steps
    rows, cols = panel.image.sizes["row"], panel.image.sizes["col"]
    has_slices = "slice" in panel.image.dims
    dims = [*panel.tags, *(["slice"] if has_slices else [])]
    beyond = _SIGMOID_BEYOND * (panel.high - panel.low) if panel.is_sigmoid and "cmap" not in options else 0
    shown = {
        "cmap": _greys(panel),
        "clim": (panel.low - beyond, max(panel.high - 1, panel.low + 1e-6) if panel.is_linear else panel.high + beyond),
        "invert_yaxis": True,
        "frame_height": size,
        "frame_width": max(1, round(size * cols * dx / (rows * dy))),
        **options,
    }

    def frame(*numbers: int) -> Any:
        index = (*numbers, 0) if not has_slices else numbers
        values = frame_values(panel.image, [int(n) for n in index])
        axes = np.arange(cols) * dx, np.arange(rows) * dy
        kdims = ["col [mm]", "row [mm]"]
        if panel.is_colour:
            levels = [(values >> bits & 255).astype(np.uint8) for bits in (0, 8, 16)]
            kept = {k: v for k, v in shown.items() if k not in ("cmap", "clim")}
            return hv.RGB((*axes, *levels), kdims=kdims).opts(backend="bokeh", **kept)
        return hv.Image((*axes, values), kdims=kdims, vdims=["value"]).opts(backend="bokeh", **shown)

    if not dims:
        return frame()
    sizes = shape if has_slices else shape[:-1]
    kdims = [hv.Dimension(dim, values=list(range(size))) for dim, size in zip(dims, sizes, strict=True)]
    return hv.DynamicMap(frame, kdims=kdims)


def _greys(panel: Panel) -> list[str]:
    """Return the grey levels of the values of a window; of a sigmoid, from before it to beyond it."""
    levels = np.arange(256)
    if panel.is_sigmoid:
        count = (2 * _SIGMOID_BEYOND + 1) * 256
        widths = (np.arange(count) + 0.5) / 256 - _SIGMOID_BEYOND - 0.5
        levels = np.round(255 / (1 + np.exp(-4 * widths))).astype(int)
    if is_inverted(panel.image):
        levels = 255 - levels
    return [f"#{level:02x}{level:02x}{level:02x}" for level in levels]
