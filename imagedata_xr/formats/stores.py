"""netCDF and Zarr: what xarray writes of an image, with its indexes again, and appearing whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from imagedata_xr.errors import MixedSeriesError, UnreadableFileError
from imagedata_xr.extras import needed
from imagedata_xr.files import output_directory, output_files
from imagedata_xr.formats.lazy import lazy_values
from imagedata_xr.formats.recognise import is_zarr_store
from imagedata_xr.formats.registry import Format
from imagedata_xr.formats.stored import indexed
from imagedata_xr.placement import check_frames
from imagedata_xr.streams import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["FORMATS", "read_netcdf", "read_zarr", "storable", "write_netcdf", "write_zarr"]

_PACKAGE: Final = {"netcdf": "h5netcdf", "zarr": "zarr"}
"""Without them xarray says that a file is of no kind it knows."""
_WHOLE: Final = "imagedata_xr_whole"
"""Attribute of an image that was written to Zarr with all its chunks, so that one that is not there was lost."""

_LISTS: Final = "imagedata_xr_lists"
"""Attribute that names those of one number or text that were lists, which netCDF does not tell from the number."""


def read_netcdf(paths: list[str], order: Any = "auto", *, variable: str | None = None) -> xr.DataArray:
    """Return the image in a netCDF file, see `read_zarr`."""
    return _read(paths, variable, lambda path: xr.open_dataset(path, engine="h5netcdf"), "netcdf")


def read_zarr(paths: list[str], order: Any = "auto", *, variable: str | None = None) -> xr.DataArray:
    """Return the image in a Zarr store, read lazily, with its tolerant indexes.

    Parameters
    ----------
    paths : list of str
        One store.
    order : object
        Of no effect: the dims of the store are named.
    variable : str, optional
        Name of the image, where the store has several arrays.

    Raises
    ------
    MixedSeriesError
        If several stores are given, or the store has several arrays and none is chosen.
    UnreadableFileError
        If it is no store with an image.

    Warns
    -----
    UserWarning
        If chunks are not there that `write_zarr` has written.
    """
    return _read(paths, variable, _opened_zarr, "zarr")


def _opened_zarr(path: str) -> xr.Dataset:
    dataset: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=False)
    if any(_WHOLE in found.attrs for found in dataset.data_vars.values()):
        import zarr

        arrays = dict(zarr.open_group(path, mode="r").arrays())
        lost = {name: array.nchunks - array.nchunks_initialized for name, array in arrays.items()}
        if any(lost.values()):
            shown = ", ".join(f"{count} of {arrays[name].nchunks} of {name}" for name, count in lost.items() if count)
            msg = (
                f"{path} lacks chunks, {shown}: they are read as zeros or nothing. It is a copy that was not finished, "
                "or another program has left out chunks of zeros"
            )
            warnings.warn(msg, stacklevel=6)
    return dataset


def _read(paths: list[str], variable: str | None, opened: Callable[[str], xr.Dataset], format: str) -> xr.DataArray:
    if len(paths) > 1:
        msg = f"{len(paths)} {format} stores are there, one was wanted: {', '.join(sorted(paths)[:8])}"
        raise MixedSeriesError(msg)
    (path,) = paths
    if not is_elsewhere(path):
        path = str(Path(path).absolute())  # values are read later, when another folder may be the current one
    needed(_PACKAGE[format], format, "storage")
    try:
        dataset = opened(path)
    except (OSError, ValueError, KeyError) as err:
        msg = f"{path} is no {format} store: {err}"
        raise UnreadableFileError(msg) from err
    names = [str(name) for name, found in dataset.data_vars.items() if {"row", "col"} <= set(found.dims)]
    name = variable or ("image" if "image" in names else names[0] if len(names) == 1 else None)
    if name is None or name not in dataset.data_vars:
        found = ", ".join(names or map(str, dataset.data_vars)) or "none"
        msg = f"{path} has the arrays {found}: choose with options={{'variable': ...}}"
        if not dataset.variables:
            msg = (
                f"{path} has no array; of a Zarr store that is a tree open a group, open_series(path of the group, "
                "format='zarr'): xarray.open_datatree shows which there are"
            )
        raise (MixedSeriesError if names else UnreadableFileError)(msg)
    # Coordinates are few and are read now; values later, and only if it is the same store then.
    image = indexed(dataset[[name]].drop_vars(name).load().assign({"image": dataset[name].variable})["image"])
    heads = [file for file in _heads(Path(path), name) if file.is_file()]
    stored = image.variable
    values = lazy_values([str(file) for file in heads], stored.shape, stored.dtype, _Stored(path, name, stored))
    image = image.copy(data=values)
    for coord in image.coords.values():
        coord.attrs = {key: _value(value) for key, value in coord.attrs.items()}
    lists = image.attrs.get(_LISTS)
    image.attrs = {key: _value(value) for key, value in image.attrs.items() if key not in (_LISTS, _WHOLE)}
    for key in str(lists or "").split():
        value = image.attrs.get(key)
        image.attrs[key] = value if isinstance(value, list) else [] if value in (None, "") else [value]
    # Stored values are nobody's original: another program may have changed them.
    image.encoding = {"source": path, "source_format": format}
    return image


def _heads(path: Path, name: str) -> list[Path]:
    """Return the files that are others as soon as a store is replaced."""
    return [path, *(path / name / head for head in ("zarr.json", ".zarray"))]


@dataclass(frozen=True)
class _Stored:
    """Values of an array in a store, see `lazy_values`."""

    path: str
    name: str
    variable: xr.Variable

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        """Return what tells the values from others, without reading them."""
        return type(self).__name__, self.path, self.name

    def __call__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """Return the values at an index."""
        try:
            values: NDArray[Any] = self.variable[key].values
        except (OSError, RuntimeError, ValueError) as err:
            msg = f"cannot read {self.name} of {self.path}: {err}"
            raise UnreadableFileError(msg) from err
        return values


def _value(value: Any) -> Any:
    """Return an attribute as it was: numbers and lists of Python."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def storable(da: xr.DataArray) -> xr.Dataset:
    """Return an image as a dataset that xarray can store: no encoding of DICOM, and attributes that files have.

    Raises
    ------
    GeometryError
        If it was made of images in different frames.
    """
    check_frames(da)
    image = da.rename("image").copy(deep=False)
    lists = [str(k) for k, v in da.attrs.items() if isinstance(v, list | tuple) and len(v) < 2]
    image.attrs = {k: "" if isinstance(v, list | tuple) and not v else v for k, v in da.attrs.items() if v is not None}
    if lists:
        image.attrs[_LISTS] = " ".join(lists)
    image.encoding = {}
    # Text of a fixed width is in no specification of Zarr, and of other text zarr 3.1 stores what is transposed in the
    # order in which it lies in memory: frames would have the headers of others.
    text = {
        name: coord.variable.copy(data=np.ascontiguousarray(coord.values, np.dtypes.StringDType()).reshape(coord.shape))
        for name, coord in image.coords.items()
        if coord.dtype.kind in "UT"
    }
    image = image.assign_coords(text)
    for coord in image.coords.values():
        coord.encoding = {}
    return image.to_dataset()


def write_netcdf(da: xr.DataArray, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Return the netCDF file that an image was written to, header and patient included.

    Parameters
    ----------
    da : DataArray
        Image.
    path : path
        A file ``.nc``, or a folder to make with ``image.nc`` in it.
    overwrite : bool
        Replace a file of that name.

    Raises
    ------
    FileExistsError
        If something is at `path`.
    OSError
        If the disk has no room for the values.
    ModuleNotFoundError
        If h5netcdf is not installed.
    """
    needed("h5netcdf", "netcdf", "storage")
    with output_files(path, (".nc",), overwrite=overwrite) as file:
        # HDF5 that finds no room ends the process as it closes the file. Values are not compressed.
        if shutil.disk_usage(file.parent).free < da.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        storable(da).to_netcdf(file, engine="h5netcdf", invalid_netcdf=da.dtype.kind == "c")
    return [path if path.name.lower().endswith(".nc") else path / "image.nc"]


def write_zarr(da: xr.DataArray, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Return the Zarr store that an image was written to, header and patient included.

    Parameters
    ----------
    da : DataArray
        Image.
    path : path
        A store ``.zarr``, or a folder to make with ``image.zarr`` in it.
    overwrite : bool
        Replace a store of that name.

    Raises
    ------
    FileExistsError
        If something is at `path`, and it is not a store that `overwrite` replaces.
    ModuleNotFoundError
        If zarr is not installed.
    """
    target = path if path.name.lower().endswith(".zarr") else path / "image.zarr"
    needed("zarr", "zarr", "storage")
    with output_directory(target, overwrite=overwrite, is_ours=is_zarr_store) as folder, _local_store(folder) as store:
        dataset = storable(da)
        dataset["image"].attrs[_WHOLE] = 1
        # To Zarr a chunk that is not there is one of zeros.
        dataset.to_zarr(store, mode="w", consolidated=False, zarr_format=3, write_empty_chunks=True)
    return [target]


@contextmanager
def _local_store(folder: Path) -> Iterator[Any]:
    """Give the store of zarr in a folder, to which nothing is written any more when the block has ended.

    zarr writes chunks in a thread of its own, and where one fails, or an interrupt comes, goes on with the others: they
    would make the folder again that is being removed.
    """
    from zarr.storage import LocalStore

    class Store(LocalStore):
        under_way = 0
        is_over = False

        async def set(self, key: str, value: Any) -> None:
            # Counted first: who sees that nothing is under way has said before that it is over.
            self.under_way += 1
            try:
                if self.is_over:
                    msg = f"{key} is not written: the store was given up"
                    raise RuntimeError(msg)
                await super().set(key, value)
            finally:
                self.under_way -= 1

    store = Store(folder)
    try:
        yield store
    finally:
        store.is_over = True
        while store.under_way:
            time.sleep(0.01)


FORMATS = {
    "netcdf": Format("netcdf", (".nc",), read_netcdf, write_netcdf),
    "zarr": Format("zarr", (".zarr",), read_zarr, write_zarr),
}
