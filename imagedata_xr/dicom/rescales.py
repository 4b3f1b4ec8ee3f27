"""The rescale that each frame of an image was read with, for values that nobody has changed to be stored with it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from imagedata_xr.dicom.frames import places_of
from imagedata_xr.dicom.job import ChangedError, Job
from imagedata_xr.dicom.pixels import Rescale, stored_exactly
from imagedata_xr.dicom.scan import scan
from imagedata_xr.elements import decimal_string
from imagedata_xr.headers import values_of_frames
from imagedata_xr.names import RT_DOSE
from imagedata_xr.quiet import filtered_warnings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["SourceRescales"]

_KINDS: Final[Mapping[object, Literal["u2", "i2"]]] = {"uint8": "u2", "uint16": "u2", "int8": "i2", "int16": "i2"}
"""How values are stored, by the type in which the source has them."""
_ELEMENTS: Final = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}


class SourceRescales:
    """The rescales that values were read with, where they are still those values: floats that nothing has changed.

    Parameters
    ----------
    job : Job
        What to write.
    """

    def __init__(self, job: Job) -> None:
        da, told = job.da, job.da.encoding
        is_signed_dose = da.attrs.get("SOPClassUID") == RT_DOSE and da.attrs.get("DoseType") == "ERROR"
        kind = _KINDS.get(told.get("stored_dtype")) if job.is_untouched and job.is_rescaled else None
        if da.attrs.get("SOPClassUID") == RT_DOSE and not is_signed_dose and kind is not None:
            kind = "u2"  # others than differences may not have signed pixels
        self._kind = kind if da.dtype.kind == "f" and job.may_be_as_read else None
        self._told: NDArray[np.float64] | None = None
        if self._kind is not None:
            known = [told.get(name) for name in _ELEMENTS]
            if None not in known:
                self._told = np.asarray(known, float)
            elif not job.from_files:
                self._told = _of_frames(da)

    def of(
        self, index: Mapping[str, int], slices: Sequence[int], planes: NDArray[Any], only_slope: bool
    ) -> list[Rescale] | None:
        """Return the rescale of each frame of a volume; None if it is not known, or does not store the values exactly.

        Parameters
        ----------
        index : mapping
            Number of the volume along each tag dim.
        slices : sequence of int
            Numbers of its slices.
        planes : ndarray
            Values of the frames.
        only_slope : bool
            Whether there may be no intercept.

        Raises
        ------
        ChangedError
            If they are not exact, and other volumes may be stored in a type that new ones would not have: volumes of a
            series share one.
        """
        if self._kind is None or self._told is None:
            return None
        count, of_volume = len(planes), self._told
        if of_volume.ndim > 1:
            of_volume = of_volume[tuple(index.values())][list(slices)]
        found = []
        for plane, (slope, intercept) in zip(planes, np.broadcast_to(of_volume, (count, 2)).tolist(), strict=True):
            texts = [decimal_string(number) for number in (slope, intercept)]
            # Sources may tell more digits than a decimal string may have.
            near, offset = map(float, texts)
            is_exact = stored_exactly(plane, near, offset, np.dtype(self._kind), 16) is not None
            if not is_exact or (only_slope and offset):
                if self._kind == "i2":
                    raise ChangedError("its values are not those that its rescale gives")
                return None
            found.append(Rescale(texts[0], texts[1], self._kind))
        return found


def _of_frames(da: xr.DataArray) -> NDArray[np.float64] | None:
    """Return what the files of frames tell, shape (tag dims..., slice, 2); None where some are not known."""
    shape = [da.sizes[dim] for dim in da.dims if dim not in ("row", "col")]
    if "source" in da.coords:
        paths = values_of_frames(da, "source").ravel().tolist()
        # Those of files of many are counted from 1.
        numbers = values_of_frames(da, "source_frame").ravel() - 1 if "source_frame" in da.coords else [0] * len(paths)
        places = list(zip(paths, list(numbers), strict=True))
    else:
        lying = places_of(da.variable)
        if lying is None:
            return None
        places = [("", 0) if place is None else (place.path, place.frame) for place in lying]
    known: dict[tuple[str, float], list[float]] = {}
    # Warnings came when it was opened.
    with suppress(OSError, ValueError), filtered_warnings():
        for table in scan(sorted({path for path, _ in places if path})).values():
            columns = [[default if v in (None, "") else v for v in table.values(n)] for n, default in _ELEMENTS.items()]
            for path, number, *told in zip(table.paths, table.frames.tolist(), *columns, strict=True):
                known[path, number] = [float(one) for one in told if isinstance(one, int | float)]
    # Frames that are absent have no file, and are not written.
    found = [known.get(place, []) if place[0] else [*_ELEMENTS.values()] for place in places]
    if any(len(one) != len(_ELEMENTS) for one in found):
        return None
    return np.asarray(found).reshape(*shape, len(_ELEMENTS))
