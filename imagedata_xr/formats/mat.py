"""MATLAB's files as images: version 5 through SciPy, 7.3 (HDF5) through h5py. Nothing in them is executed.

Arrays have MATLAB's order: (row, col, slice, tag dims from the last to the first). What MATLAB has no place for,
geometry, header and labels, is JSON text in the variable ``imagedata_xr`` beside the array, from which our own files
come back whole.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr.dicom.series import preferred_chunks
from imagedata_xr.errors import MixedSeriesError, OrderError, UnreadableFileError, ValuesNotStorableError
from imagedata_xr.extras import needed
from imagedata_xr.files import output_files
from imagedata_xr.formats.labels import dim_names, tag_dims, with_labels
from imagedata_xr.formats.lazy import lazy_values
from imagedata_xr.formats.registry import Format
from imagedata_xr.formats.stored import described, described_dims, restored

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FORMATS", "read_mat", "write_mat"]

_FOR: Final = ("a MAT file", "mat")
_VARIABLE: Final = "A"
_BESIDE: Final = "imagedata_xr"
_SUFFIXES: Final = (".mat",)
_HDF: Final = b"\x89HDF\r\n\x1a\n"
_HEAD: Final = 512
"""Bytes before the HDF5 of a file of version 7.3."""

_LARGEST: Final = (1 << 31) - 1
"""Bytes of a variable that version 5 can hold."""

_CLASSES: Final = {
    "f4": "single",
    "f8": "double",
    **{f"{k}{n}": f"{'u' * (k == 'u')}int{8 * n}" for k in "iu" for n in (1, 2, 4, 8)},
}


def read_mat(paths: list[str], order: Any = "auto", *, variable: str | None = None) -> xr.DataArray:
    """Return an array in a MAT file as an image; one of our own files comes back with place, labels and header.

    Other files have no place in the patient: `open_series` takes it from ``geometry=``.

    Parameters
    ----------
    paths : list of str
        One file.
    order : str or sequence of str
        Names of the tag dims of an array of more than three axes; "auto" is ``volume`` for the fourth.
    variable : str, optional
        Name of the array, where the file has several.

    Raises
    ------
    MixedSeriesError
        If several files are given, or the file has several arrays and none is chosen.
    OrderError
        If the array has not as many axes as `order` names.
    UnreadableFileError
        If the file is damaged, or has no such array.
    """
    if len(paths) > 1:
        msg = f"{len(paths)} MAT files are there, one was wanted: {', '.join(sorted(paths)[:8])}"
        raise MixedSeriesError(msg)
    (path,) = paths
    is_hdf = _is_hdf(path)
    arrays = _hdf_arrays(path) if is_hdf else _arrays(path)
    text = _text(path, is_hdf=is_hdf)
    name = _chosen(path, arrays, variable or (_VARIABLE if text is not None and _VARIABLE in arrays else None))
    shape, dtype = arrays[name]
    is_own = text is not None and variable in (None, _VARIABLE)
    dims = described_dims(text or "", path) if is_own else []
    # MATLAB drops the last axes of size 1, and a frame has one slice.
    whole = (*shape, *(1,) * (max(3, len(dims) + ("slice" not in dims) * is_own) - len(shape)))
    turned = (*whole[:2:-1], whole[2], whole[0], whole[1])
    values = lazy_values([path], turned, dtype, partial(_read_hdf if is_hdf else _read, path, name, len(whole), dtype))
    if is_own:
        da = restored(values if "slice" in dims else np.asarray(values)[..., 0, :, :], text or "", path)
    else:
        extra = len(whole) - 3
        names = ["dim7", "dim6", "dim5", "volume"][4 - extra :] if order in ("auto", None) else dim_names(order)
        if len(names) != extra:
            msg = f"{name} has axes of {shape}: {extra} beyond row, col and slice; order names {names}"
            raise OrderError(msg)
        da = with_labels(xr.DataArray(xr.Variable((*names, "slice", "row", "col"), values), name="image"), {})
    # A variable of version 5 is read whole for any part of it.
    chunks = preferred_chunks(da.shape, da.dtype.itemsize, len(da.dims) - 2) if is_hdf else da.shape
    da.encoding = {"source": path, "source_format": "mat", "stored_dtype": str(dtype), "variable": name}
    da.encoding["preferred_chunks"] = dict(zip(da.dims, chunks, strict=True))
    return da


def _is_hdf(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD + 8)
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    return _HDF in (head[:8], head[_HEAD:])


def _chosen(path: str, arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], variable: str | None) -> str:
    """Return the name of the array to read."""
    found = ", ".join(f"{name} {shape}" for name, (shape, _) in arrays.items()) or "none"
    if variable is not None and variable not in arrays:
        msg = f"{path} has no array {variable!r}; there are {found}"
        raise UnreadableFileError(msg)
    if variable is None and len(arrays) != 1:
        msg = f"{path} has {len(arrays)} arrays, {found}: choose with options={{'variable': ...}}"
        raise (MixedSeriesError if arrays else UnreadableFileError)(msg)
    return variable or next(iter(arrays))


_TYPES: Final = {
    **{name: np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
    "single": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "logical": np.dtype(bool),
}


def _arrays(path: str) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of the numerical arrays of a file of version 5."""
    io = needed("scipy.io", *_FOR)
    try:
        found = io.whosmat(path)
    except Exception as err:
        raise _damaged(path, err) from err
    return {
        name: (tuple(map(int, shape)), _TYPES[kind])
        for name, shape, kind in found
        if kind in _TYPES and len(shape) >= 2 and min(shape) > 0
    }


def _damaged(path: str, err: Exception) -> UnreadableFileError:
    return UnreadableFileError(f"{path} is a damaged MAT file: {type(err).__name__}: {err}")


def _load(path: str, name: str) -> Any:
    """Return one variable of a file of version 5."""
    io = needed("scipy.io", *_FOR)
    try:
        return io.loadmat(path, variable_names=[name], mat_dtype=False)[name]
    except Exception as err:
        raise _damaged(path, err) from err


def _read(path: str, name: str, ndim: int, dtype: np.dtype[Any], key: tuple[int | slice, ...]) -> NDArray[Any]:
    """Return values at an index of the array (tags..., slice, row, col); the variable is read whole.

    MATLAB stores whole numbers in the smallest type that holds them, whatever the class of the variable.
    """
    values = np.asarray(_load(path, name))
    if values.dtype.kind == "c":
        msg = f"{path}: {name} is complex; store real({name}) and imag({name}), or abs and angle, as variables"
        raise UnreadableFileError(msg)
    found: NDArray[Any] = _turned(values.reshape(*values.shape, *(1,) * (ndim - values.ndim)))[key]
    return found.astype(dtype, copy=False)


def _turned(values: Any) -> Any:
    """Return MATLAB's (row, col, slice, tags...) as (tags..., slice, row, col)."""
    return values.transpose([*range(values.ndim - 1, 1, -1), 0, 1])


def _hdf_arrays(path: str) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape, as MATLAB has it, and type of the numerical arrays of a file of version 7.3."""
    found, pairs = {}, []
    with _hdf(path) as file:
        for name in file:
            data = _dataset(file, name)
            if data is not None and data.dtype.names == ("real", "imag"):
                pairs.append(name)
            if data is None or data.dtype.kind not in "iuf" or data.ndim < 2 or not data.size:
                continue
            if data.attrs.get("MATLAB_empty", 0):
                continue  # what is stored is its shape, not its values
            kind = data.attrs.get("MATLAB_class", b"")
            if kind in (b"char", b"cell", b"struct", b"function_handle"):
                continue
            dtype = np.dtype(bool) if kind == b"logical" else data.dtype.newbyteorder("=")
            found[name] = tuple(map(int, data.shape[::-1])), dtype
    if pairs and not found:
        name = pairs[0]
        msg = f"{path}: {name} is complex; store real({name}) and imag({name}), or abs and angle, as variables"
        raise UnreadableFileError(msg)
    return found


def _hdf(path: str) -> Any:
    h5py = needed("h5py", *_FOR)
    try:
        return h5py.File(path, "r")
    except OSError as err:
        raise _damaged(path, err) from err


def _dataset(file: Any, name: str) -> Any:
    """Return a dataset that lies in the file itself; None for links to others, which may be anybody's."""
    h5py = needed("h5py", *_FOR)
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return None
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        return None
    return found


def _read_hdf(path: str, name: str, ndim: int, dtype: np.dtype[Any], key: tuple[int | slice, ...]) -> NDArray[Any]:
    """Return values at an index of the array (tags..., slice, row, col); only these are read."""
    with _hdf(path) as file:
        data = _dataset(file, name)
        if data is None:
            msg = f"{path} has no array {name!r} of its own any more"
            raise UnreadableFileError(msg)
        # Stored with the axes of MATLAB reversed: (tags..., slice, col, row).
        dropped = ndim - data.ndim
        inner = (*key[:-2], key[-1], key[-2])[dropped:]
        try:
            values = np.asarray(data[inner]).astype(dtype, copy=False)
        except (OSError, ValueError) as err:
            raise _damaged(path, err) from err
    lead = [part for part in key[:dropped] if not isinstance(part, int)]
    values = values.reshape(*(1 for _ in lead), *values.shape)
    is_plane = not isinstance(key[-1], int) and not isinstance(key[-2], int)
    return values.swapaxes(-1, -2) if is_plane else values


def _text(path: str, *, is_hdf: bool) -> str | None:
    """Return the description in one of our own files, None in others."""
    if is_hdf:
        with _hdf(path) as file:
            data = _dataset(file, _BESIDE) if _BESIDE in file else None
            if data is None or data.dtype.kind != "u" or data.size > _LARGEST:
                return None
            return np.asarray(data[()], np.uint16).ravel().tobytes().decode("utf-16-le", "replace")
    names = [name for name, _, kind in needed("scipy.io", *_FOR).whosmat(path) if name == _BESIDE and kind == "char"]
    return "".join(np.asarray(_load(path, _BESIDE)).ravel().tolist()) if names else None


def write_mat(
    da: xr.DataArray, path: Path, *, overwrite: bool = False, version: Literal["5", "7.3"] | None = None
) -> list[Path]:
    """Return the file that an image was written to: its values as ``A``, all else as text beside it.

    Our own reader brings the image back whole, patient and place included. All values are computed.

    Parameters
    ----------
    da : DataArray
        Image.
    path : path
        A file ``.mat``, or a folder to make with ``image.mat`` in it.
    overwrite : bool
        Replace a file of the same name.
    version : {"5", "7.3"}, optional
        Of the format; None takes 7.3 only for more than 2 GiB.

    Raises
    ------
    ValuesNotStorableError
        If values are neither integers, floats of 32 or 64 bits nor a mask.
    FileExistsError
        If something is at `path`.
    """
    if "rgb" in da.dims:
        msg = "colours (dim 'rgb') are not written: write one of them, image.isel(rgb=0)"
        raise ValuesNotStorableError(msg)
    da = da.transpose(*tag_dims(da), ..., "row", "col")
    shaped = da if "slice" in da.dims else da.expand_dims("slice")
    values = shaped.transpose("row", "col", "slice", *reversed(tag_dims(da))).values
    if values.dtype != bool and values.dtype.str[1:] not in _CLASSES:
        msg = f"MATLAB has no values of type {values.dtype}; convert them with image.astype(...)"
        raise ValuesNotStorableError(msg)
    text = described(da)
    large = values.nbytes > _LARGEST or 2 * len(text) > _LARGEST
    if version == "5" and large:
        msg = f"version 5 has at most {_LARGEST} bytes in a variable, the image {values.nbytes}: write version='7.3'"
        raise ValuesNotStorableError(msg)
    with output_files(path, _SUFFIXES, overwrite=overwrite) as file:
        if version == "7.3" or large:
            _save_hdf(file, values, text)
        else:
            io = needed("scipy.io", *_FOR)
            io.savemat(file, {_VARIABLE: values, _BESIDE: text}, do_compression=False, oned_as="row")
    return [path if path.name.lower().endswith(_SUFFIXES) else path / "image.mat"]


def _save_hdf(path: Path, values: NDArray[Any], text: str) -> None:
    """Write a file of version 7.3, which is HDF5 after 512 bytes that say so."""
    h5py = needed("h5py", *_FOR)
    with h5py.File(path, "w", userblock_size=_HEAD) as file:
        is_mask = values.dtype == bool
        data = file.create_dataset(_VARIABLE, data=values.T.view(np.uint8) if is_mask else values.T)
        data.attrs["MATLAB_class"] = np.bytes_("logical" if is_mask else _CLASSES[values.dtype.str[1:]])
        if is_mask:
            data.attrs["MATLAB_int_decode"] = np.int32(1)
        codes = np.frombuffer(text.encode("utf-16-le"), np.uint16).reshape(-1, 1)
        beside = file.create_dataset(_BESIDE, data=codes)
        beside.attrs["MATLAB_class"] = np.bytes_("char")
        beside.attrs["MATLAB_int_decode"] = np.int32(2)
    with open(path, "r+b") as file:
        head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created by imagedata_xr HDF5 schema 1.00 ."
        file.write(head.ljust(124) + b"\x00\x02IM")


FORMATS = {"mat": Format("mat", _SUFFIXES, read_mat, write_mat)}
