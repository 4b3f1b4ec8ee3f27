"""Plain pictures of images, made without a browser: montages, moving pictures, masks in colour."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import xarray as xr

from imagedata_xr.colours import colour_levels
from imagedata_xr.errors import PairingError
from imagedata_xr.files import file_here, output_files
from imagedata_xr.images import require_image
from imagedata_xr.indexes import TagIndex, format_labels
from imagedata_xr.montage import montage, true_shape
from imagedata_xr.names import POLARITY, SPATIAL_DIMS
from imagedata_xr.origins import ORIGIN_PREFIX
from imagedata_xr.positions import geometry_equal
from imagedata_xr.window import grey_levels, limits, palette, to_rgb

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["Plot", "fuse_mask", "to_gif", "to_png"]


def fuse_mask(
    da: xr.DataArray,
    mask: xr.DataArray,
    *,
    color: tuple[int, int, int] = (255, 64, 64),
    alpha: float = 0.4,
    colormap: str | None = None,
    mask_colormap: str | None = None,
    **options: Any,
) -> xr.DataArray:
    """Return an image as colours with a mask, or another image, laid over it, as uint8.

    Dims are the tag dims, slice, row, col and ``rgb``. Header, labels and place are those of the image; of the mask
    there are the labels along tag dims that the image does not have, and the series that it came from.

    Parameters
    ----------
    da : DataArray
        Image below.
    mask : DataArray
        What lies over it, at the same place: where it is 0 or NaN the image shows alone. True, or any other number, is
        `color`; with `mask_colormap` values are coloured from the smallest to the largest. A mask without a tag dim, or
        of one volume along it, lies over all volumes; else each volume of the image needs one of the same label.
    color : tuple of 3 int
        Red, green and blue of the mask.
    alpha : float
        How much of the mask is seen: 0 nothing, 1 it alone.
    colormap, mask_colormap : str, optional
        Palettes of 256 colours, as of `to_rgb`.
    **options
        Of `window`: centre and width for the image.

    Raises
    ------
    ValueError
        If the mask is at another place or of another size, alpha is not from 0 to 1, colours are neither uint8 nor
        uint16, or there is no such palette.
    PairingError
        If the mask has several volumes, and lacks some of the image.

    Examples
    --------
    >>> image = xr.DataArray([[0, 100], [100, 0]], dims=("row", "col"))
    >>> fused = fuse_mask(image, image > 0, color=(255, 0, 0), alpha=1.0, center=50, width=100)
    >>> fused.sel(rgb=0).values.tolist(), fused.sel(rgb=1).values.tolist()
    ([[0, 255], [255, 0]], [[0, 0], [0, 0]])
    """
    if not 0 <= alpha <= 1:
        msg = f"alpha is {alpha}; it has to be from 0 to 1"
        raise ValueError(msg)
    if mask_colormap is not None:
        palette(mask_colormap)  # raises now, not after the image was read
    require_image(mask, "the mask")
    has_place = all("slice" in one.coords and "row" in one.coords for one in (da, mask))
    if has_place and not geometry_equal(da, mask):
        msg = (
            "mask and image are at different places: turn the mask, mask.dicom.turn_like(image), if its axes are the "
            "same but run another way; else resample it onto the grid of the image, mask.dicom.resample_like(image, "
            "interpolation='nearest', fill_value=False)"
        )
        raise ValueError(msg)
    sizes = [{dim: one.sizes.get(dim, 1) for dim in SPATIAL_DIMS} for one in (da, mask)]
    if sizes[0] != sizes[1]:
        msg = f"the image has {sizes[0]}, the mask {sizes[1]}; a mask with a voxel for each of the image is wanted"
        raise ValueError(msg)
    mask = _laid_on(mask, da)
    own = [dim for dim in mask.dims if dim not in (*da.dims, *SPATIAL_DIMS)]
    colours = colour_levels(to_rgb(da, colormap, **options))
    below = colours.astype(np.float32).drop_vars(own, errors="ignore")
    inside = mask.fillna(0) != 0
    if mask_colormap is None:
        above = xr.DataArray(_red_green_blue(color), dims="rgb")
    else:
        values = mask.astype(np.float64).drop_attrs(deep=False)  # the smallest comes first, be it white or black
        low, high = limits(values)
        if np.isnan(low):  # nothing is laid over
            low, high = 0.0, 1.0
        span = {"center": (low + high) / 2, "width": (high - low) or 1.0, "function": "LINEAR_EXACT"}
        above = to_rgb(values.fillna(low), mask_colormap, **span).astype(np.float32)
    weight = inside.astype(np.float32) * np.float32(alpha)
    fused = (below * (1 - weight) + above * weight).round().astype(np.uint8)
    tags = [dim for dim in da.dims if dim not in (*SPATIAL_DIMS, "rgb")]
    ordered = fused.transpose(*tags, *own, *SPATIAL_DIMS, "rgb", missing_dims="ignore")
    return ordered.assign_attrs({**da.attrs, POLARITY: "RGB"}).rename(da.name)


def _laid_on(mask: xr.DataArray, da: xr.DataArray) -> xr.DataArray:
    """Return a mask with the volumes of an image, or one for all; what it knows of frames and places is left behind.

    Its header would take the place of what only the image varies in: labels, echo times, and files.

    Raises
    ------
    PairingError
        If it has several volumes, and lacks some of the image.
    """
    for dim in [dim for dim in mask.dims if dim not in (*SPATIAL_DIMS, "rgb")]:
        if mask.sizes[dim] == 1:
            mask = mask.isel({dim: 0})
        elif dim in da.dims:
            mask = mask.isel({dim: _partners(mask, da, str(dim))})
    kept = [dim for dim in mask.dims if dim not in (*da.dims, *SPATIAL_DIMS)]
    return mask.drop_vars([n for n in mask.coords if n not in kept and not str(n).startswith(ORIGIN_PREFIX)])


def _partners(mask: xr.DataArray, da: xr.DataArray, dim: str) -> NDArray[np.intp]:
    """Return the number in the mask of each volume of the image along a tag dim: by label, where both have labels.

    Raises
    ------
    PairingError
        If the mask lacks one, or has it twice.
    """
    if dim in mask.coords and dim in da.coords:
        have, wanted = (_labels(one, dim) for one in (mask, da))
        found: NDArray[np.intp] = have.reindex_like(wanted)[dim]
        if (found >= 0).all():
            return found
        lacks, has = format_labels(wanted.index[found < 0]), format_labels(have.index)
        msg = f"along {dim} the mask has volumes {has}, and lacks {lacks} of the image"
    elif mask.sizes[dim] == da.sizes[dim]:
        return np.arange(da.sizes[dim])
    else:
        msg = f"along {dim} the mask has {mask.sizes[dim]} volumes and the image {da.sizes[dim]}, not both with labels"
    raise PairingError(
        f"{msg}; make a mask of all of them, or of one, which serves for all, mask.isel({dim}=0), or select those of "
        f"the image that have one, image.isel({dim}=...)"
    )


def _labels(da: xr.DataArray, dim: str) -> TagIndex:
    index = da.xindexes.get(dim)
    return index if isinstance(index, TagIndex) else TagIndex.for_dim(dim, da.coords[dim].values)


def to_png(da: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False, **options: Any) -> Path:
    """Return the PNG file with all slices of a volume side by side.

    Parameters
    ----------
    da : DataArray
        One volume.
    path : path
        Its name, which ends with ``.png``.
    overwrite : bool
        Whether it may replace a file.
    **options
        Of `imagedata_xr.montage.montage`.

    Raises
    ------
    FileExistsError
        If the file is there.
    ValueError
        If there is more than one volume.
    """
    picture = Plot(da).montage(**options)
    out = file_here(path, (".png",))
    with output_files(out, (".png",), overwrite=overwrite) as file:
        picture.save(file, format="PNG")
    return out


def _red_green_blue(color: Any) -> NDArray[np.float32]:
    """Return a colour as three numbers.

    Raises
    ------
    ValueError
        If it is not red, green and blue from 0 to 255.
    """
    levels = np.asarray(color)
    if levels.shape != (3,) or levels.dtype.kind not in "iuf" or not ((levels >= 0) & (levels <= 255)).all():
        msg = f"color is {color!r}; red, green and blue from 0 to 255 are wanted, such as (255, 64, 64)"
        raise ValueError(msg)
    return levels.astype(np.float32)


def to_gif(
    da: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    dim: str | None = None,
    rate: float = 10.0,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Return the moving picture of an image along one dim, at one window; other dims stay in their middle.

    A millimetre is as long either way, as in `imagedata_xr.montage.montage`.

    Parameters
    ----------
    da : DataArray
        Image.
    path : path
        Its name, which ends with ``.gif``.
    dim : str, optional
        What moves: by default the first tag dim, else the slices.
    rate : float
        Pictures a second.
    overwrite : bool
        Whether it may replace a file.
    **options
        ``center`` and ``width`` of the window.

    Raises
    ------
    FileExistsError
        If the file is there.
    ValueError
        If the image has no such dim, its colours are neither uint8 nor uint16, or `rate` is none.
    GeometryError
        If rows or columns are unevenly spaced, or there is one of unknown size.
    """
    from PIL.Image import fromarray

    rest = [str(name) for name in da.dims if name not in ("row", "col", "rgb")]
    if not isinstance(rate, Real) or not rate > 0 or round(1000 / rate) < 1:
        msg = f"rate is {rate!r}; frames per second are wanted, more than 0 and at most 1000"
        raise ValueError(msg)
    moving = dim or (rest[0] if rest else "slice")
    if moving not in rest:
        msg = f"image has dims {da.dims}; none of them is {moving!r}, along which the picture moves"
        raise ValueError(msg)
    moved = da.isel({name: da.sizes[name] // 2 for name in rest if name != moving}).transpose(moving, "row", "col", ...)
    is_colour = "rgb" in moved.dims
    levels = colour_levels(moved) if is_colour else grey_levels(moved, **options)
    pictures = [fromarray(frame) for frame in true_shape(np.asarray(levels.values), moved)]
    out = file_here(path, (".gif",))
    with output_files(out, (".gif",), overwrite=overwrite) as file:
        pictures[0].save(
            file, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / rate), loop=0
        )
    return out


class Plot:
    """Pictures of an image as Pillow has them, which notebooks show.

    Examples
    --------
    >>> image = xr.DataArray(np.arange(24).reshape(2, 3, 4), dims=("slice", "row", "col"))
    >>> Plot(image).montage(columns=2).size
    (8, 3)
    """

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    def __repr__(self) -> str:
        """Return what is here, as `image.dicom` does."""
        return f"image.dicom.plot has {', '.join(name for name in dir(type(self)) if not name.startswith('_'))}"

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError, which says what to call."""
        msg = (
            "image.dicom.plot is not called itself: image.dicom.plot.montage() is a picture of all slices of a volume, "
            "image.dicom.plot.thumbnail() one of the middle slice, image.dicom.view() shows all"
        )
        raise TypeError(msg)

    def montage(self, **options: Any) -> Image:
        """Return all slices of a volume side by side. See `imagedata_xr.montage.montage`."""
        from PIL.Image import fromarray

        return fromarray(montage(self._da, **options))

    def thumbnail(self, size: int = 96) -> Image:
        """Return the middle frame in small; no other is read.

        Parameters
        ----------
        size : int
            Pixels of its longer side, at most.
        """
        from PIL.Image import fromarray

        rest = {name: self._da.sizes[name] // 2 for name in self._da.dims if name not in ("row", "col", "rgb")}
        frame = self._da.isel(rest)
        picture = fromarray(montage(frame.expand_dims("slice") if "slice" not in frame.dims else frame))
        picture.thumbnail((size, size))
        return picture
