"""An image to a PACS: written as DICOM to a temporary folder, looked at, and sent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagedata_xr.errors import NotStoredError
from imagedata_xr.formats.registry import writer_of
from imagedata_xr.origins import origins
from imagedata_xr.pacs.report import Report
from imagedata_xr.pacs.send import send

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

    from imagedata_xr.pacs.peer import Peer

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
        As in `imagedata_xr.pacs.send.send`. To be able to send again just what is lacking, write to a folder first and
        send that.
    ValuesNotStorableError, GeometryError, ValueError
        As in `imagedata_xr.dicom.write.write_dicom`; nothing is sent then.
    """
    with tempfile.TemporaryDirectory(prefix="imagedata_xr-") as folder:
        files = writer_of("dicom", options)(da, Path(folder, "series"), keep_uid=keep_uid, **options)
        made_from = () if keep_uid else _uids(da)
        try:
            return send([*files], place, jobs=jobs, commit=commit, progress=progress, made_from=made_from)
        except NotStoredError as err:
            # The files are about to go: only their names and UIDs say something.
            report = Report(instance._replace(path=Path(instance.path).name) for instance in err.report)
            first = report.failed[0]
            there = len(report) - len(report.failed)
            msg = (
                f"{len(report.failed)} of {len(report)} instances are not known to be stored: {report.summary}. "
                f"The first is {first.path}: {first.reason}. "
                + (
                    f"{there} of an incomplete series are there; sent again, it is a new one"
                    if there
                    else "Send it again"
                )
            )
            raise NotStoredError(msg, report) from err


def _uids(da: xr.DataArray) -> set[str]:
    """Return the UIDs of the instances and series that an image was made from."""
    found = {origin.SeriesInstanceUID for origin in origins(da)}
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        if name in da.coords:
            found |= {str(uid) for uid in np.unique(da.coords[name].values)}
        elif name in da.attrs:
            found.add(str(da.attrs[name]))
    return found - {""}
