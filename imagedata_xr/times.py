"""When volumes were acquired, as the numbers of seconds in which images keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["AS_READ", "are_numbers_of_volumes", "in_seconds"]

_DIMS: Final = ("time", "triggertime")
_START: Final = "AcquisitionDateTime"
AS_READ: Final = "as_read"
"""Attribute of a start: the one that files tell. Where that is another the user has set it."""
_SECOND: Final = np.timedelta64(1, "s")


def in_seconds(da: xr.DataArray) -> xr.DataArray:
    """Return an image whose labels along ``time`` and ``triggertime`` are numbers [s].

    They can be durations or moments, as `xarray.DataArray.resample` wants them. Moments become seconds after
    AcquisitionDateTime; where the image has none, after the first of them, which it gets as AcquisitionDateTime.

    Parameters
    ----------
    da : DataArray
        The image; it is returned itself where its labels are numbers.

    Raises
    ------
    ValueError
        If labels are neither, or not finite.

    Examples
    --------
    >>> import xarray as xr
    >>> image = xr.DataArray([1, 2], coords={"time": np.array([1500, 3000], "timedelta64[ms]")}, dims="time")
    >>> in_seconds(image).time.values
    array([1.5, 3. ])
    """
    changed: dict[Hashable, object] = {}
    for dim in _DIMS:
        if dim not in da.dims or dim not in da.coords:
            continue
        labels = da.coords[dim].variable
        kind, values = labels.dtype.kind, labels.values
        if kind not in "iufmM" or not (np.isfinite(values)).all():
            found = ", ".join(map(str, values[:4].tolist()))
            msg = (
                f"the labels along {dim} are {found}{', ...' if values.size > 4 else ''}; numbers [s], durations or "
                f"moments are wanted, one a volume: give them with assign_coords({dim}=...)"
            )
            raise ValueError(msg)
        if kind == "m":
            changed[dim] = labels.copy(data=values / _SECOND)
        elif kind == "M":
            start = _start(da, values)
            if not _is_start(da):
                changed[_START] = f"{start}"
            changed[dim] = labels.copy(data=(values - start) / _SECOND)
    return da.assign_coords(changed) if changed else da


def are_numbers_of_volumes(labels: xr.DataArray | None) -> bool:
    """Return whether labels along ``time`` only count the volumes, since the files do not tell when these were made.

    Arithmetic leaves attributes as they were, so that numbers that were multiplied by the time of a volume are times.
    """
    if labels is None or "element" not in labels.attrs or "units" in labels.attrs:
        return False
    return bool((np.diff(labels.values) == 1).all())


def _start(da: xr.DataArray, moments: NDArray[np.datetime64]) -> np.datetime64:
    """Return from when on times count."""
    return (
        np.datetime64(str(da.coords[_START].values), "us") if _is_start(da) else moments.min().astype("datetime64[us]")
    )


def _is_start(da: xr.DataArray) -> bool:
    """Return whether an image has a start: in ISO form, else AcquisitionDateTime is an element of a frame."""
    return _START in da.coords and not da.coords[_START].ndim and "T" in str(da.coords[_START].values)
