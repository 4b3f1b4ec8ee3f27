"""PNG, JPEG, TIFF and GIF pictures, through Pillow: a file a slice. A picture has no place in the patient."""

from __future__ import annotations

import re
import struct
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import MixedSeriesError, OrderError, UnreadableFileError, ValuesNotStorableError
from imagedata_xr.files import output_directory, output_files
from imagedata_xr.formats.labels import dim_names, tag_dims, with_labels
from imagedata_xr.formats.lazy import lazy_values
from imagedata_xr.formats.registry import Format
from imagedata_xr.options import OPTIONS
from imagedata_xr.window import window as windowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FORMATS", "read_raster", "write_raster"]

_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")
_TYPES: Final = {
    "1": "u1",
    "L": "u1",
    "I;16": "u2",
    "I;16L": "u2",
    "I;16B": "u2",
    "I": "i4",
    "F": "f4",
    "RGB": "u1",
}
"""Modes of Pillow that are read, and the type of their values."""


def read_raster(paths: list[str], order: Any = "auto") -> xr.DataArray:
    """Return pictures of one size as an image: files along ``slice`` in the order of the numbers in their names.

    The pages of one TIFF are slices; the frames of one GIF are numbers along ``volume``. There are no positions:
    `open_series` takes them from ``geometry=``.

    Parameters
    ----------
    paths : list of str
        Files.
    order : str
        Name of the dim of the frames of a GIF.

    Raises
    ------
    MixedSeriesError
        If pictures differ in size or kind.
    UnreadableFileError
        If a picture is damaged, partly transparent, or larger than the limit of `set_options`.
    """
    files = sorted(paths, key=_by_number)
    heads = [_head(path) for path in files]
    kinds = {(head[0], head[1]) for head in heads}
    if len(kinds) > 1:
        shown = ", ".join(f"{w} x {h} {mode}" for (w, h), mode in sorted(kinds)[:6])
        msg = f"{len(files)} pictures of {len(kinds)} kinds are there: {shown}; open those of one kind"
        raise MixedSeriesError(msg)
    (((width, height), mode),) = kinds
    pages = heads[0][2]
    if len(files) > 1 and any(head[2] > 1 for head in heads):
        msg = f"{len(files)} files have pages of their own; open one of them"
        raise MixedSeriesError(msg)
    is_film = pages > 1 and files[0].lower().endswith(".gif")
    colour = mode == "RGB"
    shape = (*((pages, 1) if is_film else (max(pages, len(files)),)), height, width, *((3,) if colour else ()))
    names = ["volume"] if is_film else []
    if order not in ("auto", "none", None):
        wanted = dim_names(order)
        if len(wanted) != len(names):
            msg = f"pictures have {len(names)} dims beyond slice, row and col; order names {wanted}"
            raise OrderError(msg)
        names = wanted
    read = partial(_read, tuple(files), pages, mode, shape, is_film)
    values = lazy_values(files, shape, _TYPES[mode], read)
    dims = (*names, "slice", "row", "col", *(("rgb",) if colour else ()))
    da = with_labels(xr.DataArray(xr.Variable(dims, values), name="image"), {})
    lead = len(names) + 1
    chunks = preferred_chunks(shape, da.dtype.itemsize, lead)
    da.encoding = {"source": files[0], "source_format": "raster", "stored_dtype": str(da.dtype)}
    da.encoding["preferred_chunks"] = dict(zip(dims, chunks, strict=True))
    return da


def _by_number(path: str) -> list[tuple[int, int, str]]:
    """Return a key by which picture2 comes before picture10."""
    parts = re.split(r"(\d+)", path)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _opened(path: str) -> Any:
    """Return a picture of Pillow's, its pixels not yet read.

    Raises
    ------
    UnreadableFileError
        If it is damaged or too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        msg = f"cannot read {path}: {err}"
        raise UnreadableFileError(msg) from err
    except (OSError, ValueError, SyntaxError, struct.error) as err:
        msg = f"cannot read {path}: {getattr(err, 'strerror', None) or err}"
        raise UnreadableFileError(msg) from err
    if picture.size[0] * picture.size[1] * 4 > OPTIONS["largest_frame"]:
        msg = f"{path} has {picture.size} pixels; imagedata_xr.set_options(largest_frame=...) allows more"
        raise UnreadableFileError(msg)
    return picture


def _head(path: str) -> tuple[tuple[int, int], str, int]:
    """Return size, mode in which it is read, and number of pages of a picture."""
    with _opened(path) as picture:
        try:
            palette = _of_palette(picture) if picture.mode == "P" else ""
        except (OSError, ValueError, SyntaxError, struct.error) as err:
            msg = f"cannot read {path}: {err}"
            raise UnreadableFileError(msg) from err
        mode = {"P": palette, "YCbCr": "RGB", "CMYK": "RGB"}.get(picture.mode, picture.mode)
        if mode not in _TYPES:
            msg = f"{path} has pixels of kind {picture.mode}; grey levels or colours without transparency are wanted"
            raise UnreadableFileError(msg)
        return picture.size, mode, getattr(picture, "n_frames", 1)


def _of_palette(picture: Any) -> str:
    """Return whether a palette has greys or colours; transparency is not for images."""
    palette = np.asarray(picture.getpalette("RGB") or [0], np.uint8)
    if palette.size % 3:
        return "RGB"
    colours = palette.reshape(-1, 3)
    return "L" if (colours == colours[:, :1]).all() else "RGB"


def _read(
    files: tuple[str, ...],
    pages: int,
    mode: str,
    shape: tuple[int, ...],
    is_film: bool,
    key: tuple[int | slice, ...],
) -> NDArray[Any]:
    """Return values at an index; only the files or pages that have them are read."""
    lead = 2 if is_film else 1
    numbers = np.arange(int(np.prod(shape[:lead]))).reshape(shape[:lead])[key[:lead]]
    frames = [_frame(files, number, pages, mode)[key[lead:]] for number in np.ravel(numbers).tolist()]
    if not frames:
        return np.empty((*np.shape(numbers), *np.empty(shape[lead:], bool)[key[lead:]].shape), _TYPES[mode])
    return np.stack(frames).reshape(*np.shape(numbers), *frames[0].shape)


def _frame(files: tuple[str, ...], number: int, pages: int, mode: str) -> NDArray[Any]:
    path = files[0] if pages > 1 else files[number]
    with _opened(path) as picture:
        try:
            if pages > 1:
                picture.seek(number)
            found = picture if picture.mode == mode else picture.convert(mode)
            values: NDArray[Any] = np.asarray(found)
        except (OSError, ValueError, SyntaxError, EOFError, struct.error) as err:
            msg = f"cannot read {path}: {err}"
            raise UnreadableFileError(msg) from err
    if mode == "1":
        return values.astype(np.uint8)
    return values.astype(_TYPES[mode], copy=False)


def write_raster(
    da: xr.DataArray,
    path: Path,
    *,
    overwrite: bool = False,
    window: tuple[float, float] | Literal["auto"] | None = "auto",
    suffix: str = ".png",
) -> list[Path]:
    """Return the pictures that an image was written to, one a slice, named after the numbers along its dims.

    Pixels are as they are, so that the picture of oblong voxels is distorted. Pictures tell nothing of the patient
    but what the pixels show.

    Parameters
    ----------
    da : DataArray
        Image.
    path : path
        A folder to make; for a single slice a file, whose suffix says the kind of picture.
    overwrite : bool
        Replace a file.
    window : (centre, width), "auto" or None
        Window of grey levels of 8 bits; "auto" is that of the header, else of all values. None writes whole numbers
        from 0 to 65535 as they are, in 16 bits, as PNG or TIFF.
    suffix : str
        Kind of the pictures in a folder.

    Raises
    ------
    ValuesNotStorableError
        If values are not such, or the kind of picture does not hold 16 bits.
    ValueError
        If several slices are to go to one file.
    FileExistsError
        If something is at `path`.
    """
    single = path.name.lower().endswith(_SUFFIXES)
    kind = path.suffix.lower() if single else suffix
    image = da.expand_dims("slice", axis=da.get_axis_num("row")) if "slice" not in da.dims else da
    image = image.transpose(*tag_dims(image), "slice", "row", "col", ...)
    pictures = _pictures(image, window, kind)
    if single:
        count = image.size // int(np.prod([image.sizes[d] for d in ("row", "col", "rgb") if d in image.dims]))
        if count != 1:
            msg = f"{path} is one picture, and the image has {count} slices: give a folder, or select one"
            raise ValueError(msg)
        with output_files(path, _SUFFIXES, overwrite=overwrite) as file:
            _save(next(pictures)[1], file)
        return [path]
    names = []
    with output_directory(path) as folder:
        for name, values in pictures:
            names.append(f"{name}{kind}")
            _save(values, folder / names[-1])
    return [path / name for name in names]


def _pictures(image: xr.DataArray, wanted: Any, kind: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield name and pixels of each slice."""
    lead = [*tag_dims(image), "slice"]
    if wanted is None and kind not in (".png", ".tif", ".tiff"):
        msg = f"{kind} has 8 bits; give a window, or write PNG or TIFF"
        raise ValuesNotStorableError(msg)
    shown = image
    if "rgb" in image.dims:
        if image.dtype != np.uint8:
            msg = f"colours are {image.dtype}; pictures have 8 bits a colour"
            raise ValuesNotStorableError(msg)
    elif wanted is not None:
        limits = () if wanted == "auto" else wanted
        shown = (windowed(image, *limits) * 255).round().astype(np.uint8)
    for index in np.ndindex(*(shown.sizes[dim] for dim in lead)):
        values = shown.isel(dict(zip(lead, index, strict=True))).values
        if wanted is None and "rgb" not in image.dims:
            values = _sixteen(values)
        places = zip(lead, index, strict=True)
        yield "_".join(f"{dim}{n:0{len(str(shown.sizes[dim] - 1))}d}" for dim, n in places), values


def _sixteen(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return values as they are, in 16 bits.

    Raises
    ------
    ValuesNotStorableError
        If they are not whole, or too small or large.
    """
    if values.dtype.kind not in "iub" or values.min() < 0 or values.max() > 65535:
        found = f"{values.dtype} from {values.min():g} to {values.max():g}"
        msg = f"values are {found}; 16 bits hold whole numbers from 0 to 65535. Give a window=, or change the values"
        raise ValuesNotStorableError(msg)
    return values.astype(np.uint16)


def _save(values: NDArray[Any], file: Path) -> None:
    from PIL import Image

    options: dict[str, Any] = {"quality": 95} if file.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(np.ascontiguousarray(values)).save(file, **options)


FORMATS = {"raster": Format("raster", _SUFFIXES, read_raster, write_raster)}
