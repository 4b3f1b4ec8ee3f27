"""A virtual Zarr store: where the frames of an image lie in its files, for Zarr to read there; nothing is copied.

The file is a reference file of version 1 as kerchunk defines it
(https://fsspec.github.io/kerchunk/spec.html), which fsspec, kerchunk and icechunk read: names of a Zarr store of
version 2, each with its bytes or with file, offset and length.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from xarray.core import indexing

from imagedata_xr.dicom.frames import FrameArray
from imagedata_xr.dicom.stored import PixelFormat
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.extras import needed
from imagedata_xr.files import output_files, place_here
from imagedata_xr.formats.stored import described, restored
from imagedata_xr.formats.stores import storable
from imagedata_xr.streams import is_elsewhere, status

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["open_virtual", "to_virtual"]

_OURS: Final = "imagedata_xr"
_VERSION: Final = 1
_IMAGE: Final = "image"
_STORED: Final = "stored_values"
_ENCODING: Final = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
_AGAIN: Final = "open the series again and write it as it is opened"


def to_virtual(da: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the file that says where the frames of an image lie.

    Every program that reads Zarr by kerchunk's references can open it, and finds the array ``image``. Frames that are
    compressed, or stored in fewer bits than there is room for, need the codec ``imagedata_xr_frame``, which comes with
    this package; without it they are not read, rather than wrong. Where frames are rescaled each in its own way, as
    those of PET are, Zarr cannot say so: other programs find ``stored_values``, with ``RescaleSlope`` and
    ``RescaleIntercept`` of each frame; there is no ``image`` that they could take for the values.

    Parameters
    ----------
    da : DataArray
        An image as it was opened, or whole frames selected of it; not loaded, computed or chunked.
    path : path
        File to write, such as ``image.json``.
    overwrite : bool
        Replace a file of that name.

    Raises
    ------
    FileExistsError
        If there is such a file.
    ValueError
        If the image is not read from files frame by frame; or its frames are no run of bytes each (mosaics,
        compressed and planar colours, frames in several fragments).

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> image = ixr.open_series(ixr.sample.write_patient(folder / "phantom") / "ct")
    >>> file = image.dicom.to_virtual(folder / "ct.json")
    >>> bool((ixr.open_virtual(file) == image).all())
    True
    """
    frames, rows = _frames(da)
    form, places = frames.form, _Places(frames, rows)
    # The coordinates may be in dask still.
    image = told = da.copy(deep=False, data=np.broadcast_to(np.zeros((), da.dtype), da.shape)).compute()
    slopes, intercepts = _rescale(frames, rows)
    is_one = len(set(slopes)) == len(set(intercepts)) == 1
    array = _IMAGE if is_one else _STORED
    if not is_one:
        taken = sorted({"RescaleSlope", "RescaleIntercept", array} & {*map(str, da.coords), *map(str, da.dims)})
        if taken:
            msg = f"each frame has its own rescale, which {taken[0]} has to say to others: rename that coordinate"
            raise ValueError(msg)
        each = {"RescaleSlope": slopes, "RescaleIntercept": intercepts}
        image = image.assign_coords({k: (da.dims[: rows.ndim], np.reshape(v, rows.shape)) for k, v in each.items()})
    refs: dict[str, Any] = _inline(image, array)
    meta = json.loads(refs[f"{array}/.zarray"])
    attributes = json.loads(refs[f"{array}/.zattrs"])
    codec = None
    if places.syntax or form.bits_stored < form.bits_allocated:
        from imagedata_xr.formats.frame_codec import DicomFrame

        codec = DicomFrame(
            places.syntax or "",
            form.rows,
            form.columns,
            form.bits_allocated,
            form.bits_stored,
            form.high_bit,
            form.signed,
        ).get_config()
    meta |= {
        "chunks": [1] * rows.ndim + list(form.shape),
        "dtype": form.dtype.newbyteorder("<").str,
        "compressor": codec,
        "filters": None,
        "fill_value": None,
    }
    if is_one and (slopes[0], intercepts[0]) != (1.0, 0.0):
        attributes |= {"scale_factor": slopes[0], "add_offset": intercepts[0]}
    attributes[_OURS] = {
        "version": _VERSION,
        "image": described(told),
        "encoding": {k: v for k, v in da.encoding.items() if isinstance(v, str | int | float | bool)},
        "format": _told(form),
        "dtype": da.dtype.str,
        "rescale": [slopes[:1], intercepts[:1]] if is_one else [slopes, intercepts],
        "files": places.files,
        "sizes": places.sizes,
        "mtimes": places.mtimes,
        "compressed": bool(places.syntax),
        "numbers": frames.numbers[rows].ravel().tolist() if places.syntax else None,
    }
    refs[f"{array}/.zarray"], refs[f"{array}/.zattrs"] = json.dumps(meta), json.dumps(attributes)
    for chunk, (file, offset, length) in zip(_chunks(array, rows.shape, form), places.frames, strict=True):
        refs[chunk] = [_url(places.files[file]), offset, length]
    target = place_here(path)
    with output_files(target, (target.suffix.lower() or target.name.lower(),), overwrite=overwrite) as new:
        new.write_text(json.dumps({"version": 1, "refs": refs}))
    return target


def open_virtual(path: str | os.PathLike[str]) -> xr.DataArray:
    """Return the image of a virtual store, read lazily from the files that it names, which must not have changed.

    Parameters
    ----------
    path : path
        File that `to_virtual` has written.

    Raises
    ------
    UnreadableFileError
        If it is none of these, or a file that it names is gone or was changed.
    ValueError
        If it is a URL.
    """
    if isinstance(path, str) and is_elsewhere(path):
        msg = f"{path} is a URL, and virtual stores are opened from this machine: copy the file, and open the copy"
        raise ValueError(msg)
    place = place_here(path)
    try:
        return _image_of(json.loads(place.read_bytes())["refs"], str(path))
    except (LookupError, ValueError, TypeError, ArithmeticError) as err:
        msg = f"{path} is no virtual store that imagedata_xr has written"
        raise UnreadableFileError(msg) from err


def _image_of(refs: dict[str, Any], path: str) -> xr.DataArray:
    """Return the image that references describe."""
    array = _IMAGE if f"{_IMAGE}/.zattrs" in refs else _STORED
    told = json.loads(refs[f"{array}/.zattrs"])[_OURS]
    if told["version"] != _VERSION:
        msg = f"{path} is of version {told['version']}, this package reads {_VERSION}"
        raise UnreadableFileError(msg)
    shape = tuple(json.loads(refs[f"{array}/.zarray"])["shape"])
    form = PixelFormat(**told["format"])
    lead = shape[: -len(form.shape)]
    names = {file: number for number, file in enumerate(map(_url, told["files"]))}
    # By their names: other programs may have put them in another order.
    found = [refs[name] for name in _chunks(array, lead, form)]
    count = len(found)
    if count != sum(name.startswith(f"{array}/") for name, value in refs.items() if isinstance(value, list)):
        msg = f"{path} refers to other frames than its shape {shape} has"
        raise UnreadableFileError(msg)
    numbers = np.asarray([names[file] for file, _, _ in found])
    offsets, lengths = (np.asarray([value[k] for value in found], np.int64) for k in (1, 2))
    slope, intercept = (np.broadcast_to(np.asarray(told["rescale"][k], float), count) for k in (0, 1))
    sizes, mtimes = np.asarray(told["sizes"], np.int64), np.asarray(told["mtimes"], np.int64)
    _check_files(told["files"], sizes.tolist(), mtimes.tolist())
    dtype = np.dtype(told["dtype"])
    is_plain = bool((slope == 1).all() and (intercept == 0).all())
    frames = FrameArray.of_places(
        paths=[told["files"][n] for n in numbers],
        versions=(sizes[numbers], mtimes[numbers]),
        offsets=np.full(count, -1) if told["compressed"] else offsets,
        lengths=lengths,
        rows=np.arange(count).reshape(lead),
        form=form,
        dtype=dtype,
        slope=None if is_plain else slope,
        intercept=None if is_plain else intercept,
        numbers=None if told["numbers"] is None else np.asarray(told["numbers"], np.int64),
    )
    lazy: Any = indexing.LazilyIndexedArray(frames)
    image = restored(indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy)), told["image"], path)  # type: ignore[no-untyped-call] # of xarray
    image.encoding = told["encoding"]
    return image


def _check_files(files: list[str], sizes: list[int], mtimes: list[int]) -> None:
    """Raise UnreadableFileError where a file is gone or was changed."""
    for file, size, mtime in zip(files, sizes, mtimes, strict=True):
        try:
            now = tuple(status(file))
        except OSError as err:
            msg = (
                f"{file} is gone, to which the virtual store leads: {err.strerror or err}. Open the files where they "
                "are now, and write the store again"
            )
            raise UnreadableFileError(msg) from err
        if now != (size, mtime):
            msg = f"{file} has changed since the virtual store was written; write it again"
            raise UnreadableFileError(msg)


def _frames(da: xr.DataArray) -> tuple[FrameArray, NDArray[np.intp]]:
    """Return the array of frames behind an image, and the numbers of those that it has.

    Raises
    ------
    ValueError
        If there is no such array behind it, or parts of frames were selected.
    """
    array: Any = da.variable._data
    while not isinstance(array, indexing.LazilyIndexedArray) and hasattr(array, "array"):
        array = array.array
    if not isinstance(array, indexing.LazilyIndexedArray) or not isinstance(array.array, FrameArray):
        msg = f"the image is not read from DICOM files frame by frame (it was loaded, computed or chunked): {_AGAIN}"
        raise ValueError(msg)
    frames: FrameArray = array.array
    rows = frames.whole_frames(array.key.tuple)
    if rows is None:
        msg = f"parts of frames were selected, or rows or columns turned round: {_AGAIN}"
        raise ValueError(msg)
    if not rows.size:
        msg = f"the image is empty, its sizes are {dict(da.sizes)}: select something"
        raise ValueError(msg)
    if (rows < 0).any():
        msg = "frames are missing, and a store of references has none to refer to: select a part without gaps"
        raise ValueError(msg)
    return frames, rows


class _Places:
    """Where frames lie: files, with their sizes and modification times, and file, offset and length of each frame."""

    def __init__(self, frames: FrameArray, rows: NDArray[np.intp]) -> None:
        chosen = rows.ravel().tolist()
        form, is_native = frames.form, bool((frames.offsets[chosen] >= 0).all())
        is_run = form.bits_allocated >= 8
        if form.is_colour:
            is_run = is_native and form.is_plain and form.bits_stored == form.bits_allocated
        if not is_run or frames.has_lut or frames.tiles[chosen].any():
            msg = (
                "frames are colours that are not stored as RGB pixel by pixel, tiles of mosaics, bits or go through a "
                "table; none of these is a run of values"
            )
            raise ValueError(msg)
        if frames.has_own_forms:
            msg = "frames are stored in different numbers of bits, which one array of Zarr cannot say"
            raise ValueError(msg)
        first: dict[str, int] = {}
        for row in chosen:
            first.setdefault(frames.paths[row], row)
        self.files = list(first)
        self.sizes, self.mtimes = ([int(v[row]) for row in first.values()] for v in frames.versions)
        numbers = {file: number for number, file in enumerate(self.files)}
        self.syntax = ""
        if is_native:
            wanted = form.size
            self.frames = [(numbers[frames.paths[r]], int(frames.offsets[r]), wanted) for r in chosen]
            return
        tables = {file: _fragments(file) for file in self.files}
        syntaxes = {syntax for syntax, _ in tables.values()}
        if len(syntaxes) > 1 or (frames.offsets[chosen] >= 0).any():
            msg = f"frames are stored in {len(syntaxes)} ways, which one array of Zarr cannot say"
            raise ValueError(msg)
        (self.syntax,) = syntaxes
        self.frames = [(numbers[frames.paths[r]], *tables[frames.paths[r]][1][int(frames.numbers[r])]) for r in chosen]


def _fragments(file: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the transfer syntax of a compressed file, and offset and length of each frame.

    Raises
    ------
    ValueError
        If frames are not in one fragment each, or not decoded by the codec.
    """
    from imagedata_xr.dicom.codecs import DECODER_DEPENDENCIES
    from imagedata_xr.dicom.decode import Pixels
    from imagedata_xr.streams import open_binary

    with open_binary(file) as stream:
        pixels = Pixels(file, stream)
    places = pixels.fragments()
    if places is None or str(pixels.syntax) not in DECODER_DEPENDENCIES:
        msg = f"{file} has frames that are no run of bytes each ({pixels.syntax.name}): {_AGAIN} in another syntax"
        raise ValueError(msg)
    return str(pixels.syntax), places


def _rescale(frames: FrameArray, rows: NDArray[np.intp]) -> tuple[list[float], list[float]]:
    """Return slope and intercept of each frame."""
    if frames.slope is None or frames.intercept is None:
        return [1.0] * rows.size, [0.0] * rows.size
    return frames.slope[rows].ravel().tolist(), frames.intercept[rows].ravel().tolist()


def _inline(image: xr.DataArray, array: str) -> dict[str, Any]:
    """Return the names and bytes of a Zarr store of the image, but for its values, which are named `array`."""
    storage = needed("zarr.storage", "a virtual store", "storage")
    kept: dict[str, Any] = {}
    dataset = storable(image)
    for variable in dataset.variables.values():
        # Others would take these for the way in which values are stored.
        variable.attrs = {name: told for name, told in variable.attrs.items() if name not in _ENCODING}
    # Text of a fixed width, which Zarr of version 2 can say.
    text = {
        name: coord.variable.copy(data=np.asarray(coord.values.tolist(), str))
        for name, coord in dataset.coords.items()
        if coord.dtype.kind in "TO"
    }
    # The values alone in dask, which then does not compute them; coordinates are written.
    dataset = dataset.assign_coords(text).assign(image=dataset["image"].variable.chunk()).rename({_IMAGE: array})
    how: dict[str, Any] = {"mode": "w", "consolidated": False, "zarr_format": 2, "compute": False}
    dataset.to_zarr(storage.MemoryStore(kept), **how, encoding={array: {"chunks": image.shape}})
    refs: dict[str, Any] = {}
    for name, buffer in kept.items():
        data = buffer.to_bytes()
        if name.startswith(f"{array}/") and not name.rpartition("/")[2].startswith("."):
            continue
        try:
            refs[name] = data.decode("ascii")
        except UnicodeDecodeError:
            refs[name] = "base64:" + base64.b64encode(data).decode()
    return refs


def _chunks(array: str, lead: tuple[int, ...], form: PixelFormat) -> Iterator[str]:
    """Yield the names of the frames in a Zarr store."""
    for place in np.ndindex(lead):
        yield f"{array}/{'.'.join(map(str, (*place, *[0] * len(form.shape))))}"


def _told(form: PixelFormat) -> dict[str, Any]:
    return {name: getattr(form, name) for name in form.__dataclass_fields__}


def _url(file: str) -> str:
    return file if is_elsewhere(file) else f"file://{file}"
