"""PNG, JPEG, TIFF and GIF pictures, through Pillow: a file a slice. A picture has no place in the patient."""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import MixedSeriesError, OrderError, UnreadableFileError, ValuesNotStorableError
from imagedata_xr.files import output_directory, output_files
from imagedata_xr.formats.labels import dim_names, tag_dims, with_labels
from imagedata_xr.formats.lazy import lazy_values, signed_type
from imagedata_xr.formats.pages import VOLUME, Places, check_whole, places_of
from imagedata_xr.formats.registry import Format
from imagedata_xr.images import require_pictures
from imagedata_xr.options import OPTIONS
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.window import grey_levels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FORMATS", "read_raster", "write_raster"]

_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")
_NAME: Final = re.compile(r"(.+\d_)?slice\d+")
"""How a picture in a folder is called by us, without its suffix."""
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

_BITS, _PHOTOMETRIC, _EXTRA, _FORMAT = 258, 262, 338, 339
"""Tags of TIFF: bits of a sample, whether 0 is white, samples beyond grey or colours, whether numbers have a sign."""
_ORIENTATION: Final = 274
"""Tag of TIFF and EXIF by which a picture is turned to be seen; from 5 on rows become columns."""


@dataclass(frozen=True, order=True)
class _Kind:
    """What the pictures of one image have in common.

    Parameters
    ----------
    size : tuple of int
        Columns and rows.
    mode : str
        Mode of Pillow in which they are read.
    dtype : str
        Type of the values.
    """

    size: tuple[int, int]
    mode: str
    dtype: str

    def __str__(self) -> str:
        """Return it for a message."""
        return f"{self.size[0]} x {self.size[1]} {self.mode} ({np.dtype(self.dtype)})"


def read_raster(paths: list[str], order: Any = "auto") -> xr.DataArray:
    """Return pictures of one size as an image: files along ``slice`` in the order of the numbers in their names.

    The pages of one TIFF are slices, or volumes of slices where ImageJ or OME tells so in it; the frames of one GIF or
    other film are numbers along ``volume``. Pictures are turned as their
    EXIF orientation says, as they are seen in a browser. There are no positions:
    `open_series` takes them from ``geometry=``.

    Parameters
    ----------
    paths : list of str
        Files.
    order : str
        Names of the dims of the frames of a GIF, and of the volumes and channels of a TIFF.

    Raises
    ------
    MixedSeriesError
        If pictures, or pages, differ in size or kind.
    OrderError
        If `order` names other than the one dim of a GIF.
    UnreadableFileError
        If a picture is damaged, partly transparent, larger than the limit of `set_options`, a TIFF whose rows are
        stored as columns, or has values that would not be read as they are, such as colours of 16 bits.
    """
    files = sorted(paths, key=_by_number)
    heads = [_head(path) for path in files]
    kinds = {kind for found, _, _ in heads for kind in found}
    _, pages, (names, places) = heads[0]
    if len(kinds) > 1:
        shown = ", ".join(map(str, sorted(kinds)[:6]))
        many = f"{len(files)} pictures" if len(files) > 1 else f"{files[0]}: {pages} pages"
        msg = f"{many} of {len(kinds)} kinds are there: {shown}; open those of one kind"
        raise MixedSeriesError(msg)
    (kind,) = kinds
    if len(files) > 1 and any(count > 1 for _, count, _ in heads):
        msg = f"{len(files)} files have pages of their own; open one of them"
        raise MixedSeriesError(msg)
    if len(files) > 1:
        names, places = [], [[list(range(len(files)))]]
    # Of volumes and channels those are dims that there are several of.
    numbers = np.asarray(places).reshape(*(n for n in np.shape(places)[:2] if n > 1), np.shape(places)[2])
    colour = kind.mode == "RGB"
    width, height = kind.size
    shape = (*numbers.shape, height, width, *((3,) if colour else ()))
    if order not in ("auto", "none", None):
        wanted = dim_names(order)
        if len(wanted) != len(names):
            msg = f"pictures have {len(names)} dims beyond slice, row and col; order names {wanted}"
            raise OrderError(msg)
        names = wanted
    read = partial(_read, tuple(files), pages, kind, shape, numbers)
    values = lazy_values(files, shape, _as_read(kind), read)
    dims = (*names, "slice", "row", "col", *(("rgb",) if colour else ()))
    da = with_labels(xr.DataArray(xr.Variable(dims, values), name="image"), {})
    lead = len(names) + 1
    chunks = preferred_chunks(shape, da.dtype.itemsize, lead)
    da.encoding = {"source": files[0], "source_format": "raster", "stored_dtype": kind.dtype}
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
        with filtered_warnings("error", category=Image.DecompressionBombWarning):
            picture = Image.open(path, formats=("PNG", "JPEG", "TIFF", "GIF"))
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


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the file in what Pillow raises of a damaged one."""
    try:
        yield
    except UnreadableFileError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as err:
        msg = f"cannot read {path}: {err}"
        raise UnreadableFileError(msg) from err


def _head(path: str) -> tuple[list[_Kind], int, Places]:
    """Return the kinds of the pages of a TIFF, of others that of the first; the number of pages, and their places."""
    with _opened(path) as picture, _reading(path):
        kinds, pages = [_kind(picture, path)], getattr(picture, "n_frames", 1)
        if picture.format != "TIFF":
            return kinds, pages, ([VOLUME] if pages > 1 else [], [[[number]] for number in range(pages)])
        check_whole(picture, path, pages)
        places = places_of(picture, path, pages) if pages > 1 else ([], [[[0]]])
        for number in range(1, pages):
            picture.seek(number)
            kinds.append(_kind(picture, path))
        return kinds, pages, places


def _kind(picture: Any, path: str) -> _Kind:
    """Return the kind of a picture, or of the page that it is at.

    Raises
    ------
    UnreadableFileError
        If Pillow reads no such pixels, or others than there are.
    """
    palette = _of_palette(picture) if picture.mode == "P" else ""
    mode = {"P": palette, "YCbCr": "RGB", "CMYK": "RGB"}.get(picture.mode, picture.mode)
    if mode not in _TYPES or "transparency" in picture.info:
        msg = f"{path} has pixels of kind {picture.mode}; grey levels or colours without transparency are wanted"
        raise UnreadableFileError(msg)
    dtype, is_wide = _TYPES[mode], any(str(tile[3]) == "RGB;16B" for tile in picture.tile)
    if picture.format == "TIFF":
        tags = picture.tag_v2
        bits, is_signed = max(tags.get(_BITS, (1,))), max(tags.get(_FORMAT, (1,))) == 2
        if bits > 8 and tags.get(_PHOTOMETRIC, 0) == 0:
            msg = f"{path} has values of {bits} bits of which 0 is white; write it with 0 as black (BlackIsZero)"
            raise UnreadableFileError(msg)
        if tags.get(_EXTRA):
            msg = f"{path} has samples beyond grey or colours, which would be lost; write them as another picture"
            raise UnreadableFileError(msg)
        is_wide = mode == "RGB" and palette == "" and bits > 8
        # The bits of these are right in what Pillow gives, and their sign is not.
        dtype = {("L", True): "i1", ("I", False): "u4" if bits == 32 else "i4"}.get((mode, is_signed), dtype)
    if is_wide:
        msg = f"{path} has colours of 16 bits, of which 8 would be read; write 8 bits, or a grey picture a colour"
        raise UnreadableFileError(msg)
    turned = _orientation(picture)
    if turned >= 5 and picture.format == "TIFF":
        msg = (
            f"{path} has rows stored as columns (Orientation {turned}), which Pillow does not turn right; write it "
            "upright"
        )
        raise UnreadableFileError(msg)
    return _Kind(picture.size[::-1] if turned >= 5 else picture.size, mode, dtype)


def _orientation(picture: Any) -> int:
    """Return the EXIF orientation of a picture, as far as it is told before its pixels; 1 where it is upright."""
    if picture.format == "TIFF":
        found = picture.tag_v2.get(_ORIENTATION, 1)
    elif picture.format == "PNG" and not {"exif", "XML:com.adobe.xmp"} & picture.info.keys():
        found = 1  # getexif would read all pixels to look behind them
    else:
        found = picture.getexif().get(_ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


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
    kind: _Kind,
    shape: tuple[int, ...],
    places: NDArray[np.intp],
    key: tuple[int | slice, ...],
) -> NDArray[Any]:
    """Return values at an index; only the files or pages that have them are read."""
    lead = places.ndim
    numbers = places[key[:lead]]
    wanted = np.ravel(numbers).tolist()
    found = _pages(files[0], wanted, kind) if pages > 1 else (_single(files[number], kind) for number in wanted)
    frames = [values[key[lead:]] for values in found]
    if not frames:
        return np.empty((*np.shape(numbers), *np.empty(shape[lead:], bool)[key[lead:]].shape), _as_read(kind))
    return np.stack(frames).reshape((*np.shape(numbers), *frames[0].shape)).astype(_as_read(kind), copy=False)


def _as_read(kind: _Kind) -> np.dtype[Any]:
    """Return the type of values in an image."""
    return np.dtype(kind.dtype) if kind.mode == "RGB" else signed_type(kind.dtype)


def _pages(path: str, numbers: list[int], kind: _Kind) -> Iterator[NDArray[Any]]:
    """Yield the values of pages, in one pass: to find one of them, all before it are gone through."""
    with _opened(path) as picture, _reading(path):
        for number in numbers:
            picture.seek(number)
            yield _values(picture, f"page {number + 1} of {path}", kind)


def _single(path: str, kind: _Kind) -> NDArray[Any]:
    with _opened(path) as picture, _reading(path):
        return _values(picture, path, kind)


def _values(picture: Any, name: str, kind: _Kind) -> NDArray[Any]:
    """Return the values of a picture, or of the page that it is at.

    Raises
    ------
    UnreadableFileError
        If it is of another kind than the first.
    """
    found = _kind(picture, name)
    if found != kind and (picture.format != "GIF" or found.size != kind.size):
        msg = f"{name} is {found}, and the first {kind}; write those of one kind to a file of their own"
        raise UnreadableFileError(msg)
    before, is_tiff = _orientation(picture), picture.format == "TIFF"
    picture.load()
    # A TIFF Pillow has turned as it was loaded, and told no longer how.
    if not is_tiff and (turned := _orientation(picture)) != 1:
        if turned != before:
            msg = f"{name} tells its orientation behind its pixels; write it upright"
            raise UnreadableFileError(msg)
        picture = _upright(picture)
    values: NDArray[Any] = np.asarray(picture if picture.mode == kind.mode else picture.convert(found.mode))
    if found.mode == "RGB" and kind.mode == "L":  # as Pillow gives all frames of a GIF but the first
        if (values != values[..., :1]).any():
            msg = f"{name} has colours, and the first has grey levels; write those of one kind to a file of their own"
            raise UnreadableFileError(msg)
        values = values[..., 0]
    if kind.mode in ("L", "I"):
        return values.view(kind.dtype)  # the same bits, whose sign Pillow does not know
    return values.astype(kind.dtype)


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
        Replace a file, or a folder that holds nothing but pictures with such names.
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
        If something is at `path`; with `overwrite`, a folder with other files.
    """
    single = path.name.lower().endswith(_SUFFIXES)
    kind = path.suffix.lower() if single else suffix
    require_pictures(da)
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
    with output_directory(path, overwrite=overwrite, is_ours=_is_of_pictures) as folder:
        for name, values in pictures:
            names.append(f"{name}{kind}")
            _save(values, folder / names[-1])
    return [path / name for name in names]


def _is_of_pictures(folder: Path) -> bool:
    """Return whether a folder holds nothing but what is written to one here."""
    return all(
        file.is_file() and file.suffix.lower() in _SUFFIXES and _NAME.fullmatch(file.stem) for file in folder.iterdir()
    )


def _pictures(
    image: xr.DataArray, wanted: tuple[float, float] | Literal["auto"] | None, kind: str
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield name and pixels of each slice."""
    lead = [*tag_dims(image), "slice"]
    if wanted is None and kind not in (".png", ".tif", ".tiff"):
        msg = f"{kind} has 8 bits; give a window, or write PNG or TIFF"
        raise ValuesNotStorableError(msg)
    shown = image
    if "rgb" in image.dims:
        if image.dtype != np.uint8:
            msg = (
                f"colours are {image.dtype}; pictures have 8 bits a colour (uint8): (image >> 8).astype('uint8') has "
                "the upper 8 of 16 bits, image.round().clip(0, 255).astype('uint8') what was computed"
            )
            raise ValuesNotStorableError(msg)
    elif wanted is not None:
        limits = () if wanted == "auto" else wanted
        shown = grey_levels(image, *limits)
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
