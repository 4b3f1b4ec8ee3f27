"""An image to a PACS: written as DICOM to a temporary folder, looked at, and sent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagedata_xr.dicom.write import write_dicom
from imagedata_xr.origins import origins
from imagedata_xr.pacs.send import send

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

    from imagedata_xr.pacs.peer import Peer
    from imagedata_xr.pacs.report import Report

__all__ = ["send_image"]


def send_image(
    da: xr.DataArray,
    place: str | Peer,
    *,
    jobs: int = 1,
    commit: bool = False,
    keep_uid: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Report:
    """Return what became of each instance of an image that was sent to a PACS.

    It is written as `imagedata_xr.dicom.write.write_dicom` does, a new series of the same patient and study, to a
    temporary folder; before anything leaves it is made sure that the series says whose it is.

    Parameters
    ----------
    da : DataArray
        An image.
    place : str or Peer
        As in `imagedata_xr.pacs.send.send`.
    jobs, commit, progress
        As in `imagedata_xr.pacs.send.send`.
    keep_uid : bool
        Send an unchanged original with the UIDs that it has.
    **options
        `template`, `keep_private`, `nan` of `imagedata_xr.dicom.write.write_dicom`.

    Raises
    ------
    NotStoredError, ConflictingOriginError, MissingHeaderError
        As in `imagedata_xr.pacs.send.send`.
    ValuesNotStorableError, GeometryError, ValueError
        As in `imagedata_xr.dicom.write.write_dicom`; nothing is sent then.
    """
    with tempfile.TemporaryDirectory(prefix="imagedata_xr-") as folder:
        files = write_dicom(da, Path(folder, "series"), keep_uid=keep_uid, **options)
        made_from = () if keep_uid else _uids(da)
        return send([*files], place, jobs=jobs, commit=commit, progress=progress, made_from=made_from)


def _uids(da: xr.DataArray) -> set[str]:
    """Return the UIDs of the instances and series that an image was made from."""
    found = {origin.SeriesInstanceUID for origin in origins(da)}
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        if name in da.coords:
            found |= {str(uid) for uid in np.unique(da.coords[name].values)}
        elif name in da.attrs:
            found.add(str(da.attrs[name]))
    return found - {""}
