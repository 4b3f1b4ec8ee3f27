"""What is given for an argument, where what Python would make of it is not what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ask_header", "check_chunked_dims", "check_chunks", "require_bools"]


def ask_header(function: Callable[[Any], Any], header: Any, path: str) -> Any:
    """Return what a user's function says of a header; what it raises names the file.

    Examples
    --------
    >>> try:
    ...     ask_header(lambda header: header.EchoTime, None, "a.dcm")
    ... except AttributeError as error:
    ...     print(*error.__notes__)
    of the header of a.dcm; of an element that not all files have, header.get('EchoTime') is None
    """
    try:
        return function(header)
    except Exception as error:
        name = error.name if isinstance(error, AttributeError) else ""
        advice = f"; of an element that not all files have, header.get({name!r}) is None" if name else ""
        error.add_note(f"of the header of {path}{advice}")
        raise


def require_bools(**given: object) -> None:
    """Raise TypeError for an argument that is neither True nor False: "no" and None would pass for one of them.

    Parameters
    ----------
    **given
        Arguments by their names.

    Examples
    --------
    >>> require_bools(overwrite="no")
    Traceback (most recent call last):
        ...
    TypeError: overwrite='no': True or False is wanted
    """
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            msg = f"{name}={value!r}: True or False is wanted"
            raise TypeError(msg)


def check_chunks(chunks: Any) -> None:
    """Raise ValueError for sizes of chunks that are none.

    Parameters
    ----------
    chunks : int, "auto", mapping or None
        As in `imagedata_xr.open_series`.

    Examples
    --------
    >>> check_chunks({"time": 0})
    Traceback (most recent call last):
        ...
    ValueError: chunks={'time': 0}: a size along all dims, 'auto', or sizes by dim such as {'time': 1} are wanted
    """
    is_by_dim = isinstance(chunks, Mapping)
    sizes = chunks.values() if is_by_dim else [chunks]
    # What else dask takes, such as "64 MiB" along a dim, is for dask to say.
    wrong = [
        size for size in sizes if isinstance(size, bool) or (isinstance(size, Integral) and (size == 0 or size < -1))
    ]
    if wrong or not (is_by_dim or chunks is None or chunks == "auto" or isinstance(chunks, Integral)):
        msg = f"chunks={chunks!r}: a size along all dims, 'auto', or sizes by dim such as {{'time': 1}} are wanted"
        raise ValueError(msg)


def check_chunked_dims(chunks: Any, dims: Iterable[object], lacking: str = "the image has no dim") -> None:
    """Raise ValueError for chunks along dims that are not there.

    Parameters
    ----------
    chunks : int, "auto", mapping or None
        As in `imagedata_xr.open_series`.
    dims : iterable of str
        Dims that are there.
    lacking : str
        What is to be said of one that is not.

    Examples
    --------
    >>> check_chunked_dims({"tiem": 1}, ("time", "slice"))
    Traceback (most recent call last):
        ...
    ValueError: chunks={'tiem': 1}: the image has no dim tiem, but time, slice
    """
    there = [str(dim) for dim in dims]
    unknown = [str(dim) for dim in chunks if str(dim) not in there] if isinstance(chunks, Mapping) else []
    if unknown:
        msg = f"chunks={dict(chunks)!r}: {lacking} {', '.join(unknown)}, but {', '.join(there)}"
        raise ValueError(msg)
