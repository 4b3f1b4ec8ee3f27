"""Values that are read when they are indexed, by a function of the format."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from imagedata_xr.errors import UnreadableFileError, ValuesNotStorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr
    from numpy.typing import DTypeLike, NDArray

__all__ = ["DEFLATED", "check_length", "lazy_values", "narrowed", "signed_type", "type_of_file"]

DEFLATED: Final = 1032
"""Bytes that one byte of a file packed by zlib or gzip may become."""


def lazy_values(
    paths: Sequence[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    read: Callable[[tuple[int | slice, ...]], NDArray[Any]],
) -> indexing.MemoryCachedArray:
    """Return an array for an `xarray.Variable` that calls a function for exactly the part that is indexed.

    Parameters
    ----------
    paths : sequence of str
        The files that the values are in. If one of them changes later, reading raises.
    shape, dtype
        Of the whole array.
    read : callable
        Function of one int or slice (of positive step) an axis, that returns the values there. It has to be one that
        pickles: a `functools.partial` of a function of a module.
    """
    array: Any = indexing.LazilyIndexedArray(_FileArray(tuple(paths), tuple(shape), np.dtype(dtype), read))
    # As xarray wraps what its own readers read: values stay once they are loaded, and files are never written to.
    return indexing.MemoryCachedArray(indexing.CopyOnWriteArray(array))  # type: ignore[no-untyped-call] # of xarray


def check_length(path: str | os.PathLike[str], wanted: int, packed: int = 1) -> None:
    """Raise UnreadableFileError if a file is too short for what its header claims, before memory is taken for it.

    Parameters
    ----------
    path : path
        The file with the values.
    wanted : int
        Bytes that it claims.
    packed : int
        How many bytes one byte of the file may become: 1 where values lie plainly.
    """
    try:
        length = os.stat(path).st_size  # noqa: PTH116 - as in _version
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    if wanted > length * packed:
        msg = (
            f"{path} has {length} bytes, and its header claims {wanted} bytes of values: it is cut short or damaged; "
            "fetch it again"
        )
        raise UnreadableFileError(msg)


def signed_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type in which stored values are read: unsigned ones signed, for a difference not to wrap.

    Examples
    --------
    >>> [str(signed_type(name)) for name in ("uint8", "uint16", "uint32", "uint64", "float32")]
    ['int16', 'int32', 'int64', 'uint64', 'float32']
    """
    stored = np.dtype(dtype)
    is_wider = stored.kind == "u" and stored.itemsize <= 4
    return np.dtype(f"i{2 * stored.itemsize}") if is_wider else stored.newbyteorder("=")


def type_of_file(image: xr.DataArray, source_format: str) -> np.dtype[Any]:
    """Return the type of the values in a file: what was unsigned in one of the format, and is as it was read, is again.

    Parameters
    ----------
    image : DataArray
        Image.
    source_format : str
        The format that is written.
    """
    if image.encoding.get("source_format") != source_format:
        return image.dtype
    stored = np.dtype(image.encoding.get("stored_dtype", image.dtype)).newbyteorder("=")
    return stored if stored.kind == "u" and signed_type(stored) == image.dtype else image.dtype


def narrowed(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in the `type_of_file`.

    Raises
    ------
    ValuesNotStorableError
        If they were read from unsigned ones, and set to what these cannot be.
    """
    if dtype.kind == "u" and values.dtype.kind == "i" and values.size:
        ends, can = (values.min(), values.max()), np.iinfo(dtype)
        if ends[0] < can.min or ends[1] > can.max:
            msg = (
                f"values are {ends[0]}..{ends[1]}, and were {dtype} in the file that the image is from: write "
                "image.drop_encoding() to store them as they are now"
            )
            raise ValuesNotStorableError(msg)
    return values.astype(dtype, copy=False)


class _FileArray(BackendArray):
    """See `lazy_values`."""

    def __init__(
        self,
        paths: tuple[str, ...],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[tuple[int | slice, ...]], NDArray[Any]],
    ) -> None:
        self.paths, self.shape, self.dtype, self.read = paths, shape, dtype, read
        self.versions = tuple(map(_version, paths))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what identifies the values: files, sizes, modification times, and how they are read."""
        from dask.base import normalize_token

        return type(self).__name__, self.paths, self.versions, self.shape, str(self.dtype), normalize_token(self.read)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the values at an index, read now."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        for path, version in zip(self.paths, self.versions, strict=True):
            if _version(path) != version:
                msg = f"{path} has changed since it was opened; open it again"
                raise UnreadableFileError(msg)
        return self.read(key)


def _version(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - xarray pickles this; strings are enough
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    return status.st_size, status.st_mtime_ns
