"""What a notebook shows of an image: xarray's own text, and a small picture before it, once the extension is loaded."""

from __future__ import annotations

import base64
import io
from typing import Any

import xarray as xr

from imagedata_xr.viewer.pictures import Plot

__all__ = ["html", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(ipython: Any) -> None:
    """Show a thumbnail in the output of every image: ``%load_ext imagedata_xr``."""
    ipython.display_formatter.formatters["text/html"].for_type(xr.DataArray, html)


def unload_ipython_extension(ipython: Any) -> None:
    """Show images as xarray does: ``%unload_ext imagedata_xr``."""
    ipython.display_formatter.formatters["text/html"].pop(xr.DataArray, None)


def html(da: xr.DataArray) -> str:
    """Return what a notebook shows of an array: xarray's text, with a thumbnail where one frame is enough for it.

    Examples
    --------
    >>> html(xr.DataArray([1, 2], dims="x")).startswith("<img")
    False
    """
    text = str(da._repr_html_())  # type: ignore[no-untyped-call] # xarray gives it no types
    # A chunk of dask may hold many frames, and be the end of long work.
    if not {"row", "col"} <= set(da.dims) or 0 in da.shape or da.chunks is not None or da.dtype.kind not in "biufc":
        return text
    try:
        picture = Plot(da).thumbnail()
    except (OSError, ValueError):
        return text  # of an image that cannot be drawn, or read, the text says what is known
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    told = base64.b64encode(stream.getvalue()).decode("ascii")
    style = "float:right;margin:4px;background:#000"
    return f'<img src="data:image/png;base64,{told}" alt="middle frame" style="{style}">{text}'
