"""The public functions: see what is there, open, write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from imagedata_xr.backend import DicomBackendEntrypoint

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from pydicom import Dataset as PydicomDataset

    from imagedata_xr.dicom.scan import Source
    from imagedata_xr.dicom.sort import Duplicates, Missing
    from imagedata_xr.dicom.tags import Order

__all__ = ["open_series", "open_study", "scan", "write"]

Chunks = int | Literal["auto"] | Mapping[Any, Any] | None


def open_series(
    source: Source,
    order: Order = "auto",
    *,
    series: str | int | None = None,
    merge: bool = False,
    where: Callable[[PydicomDataset], bool] | None = None,
    missing: Missing = "error",
    duplicates: Duplicates = "error",
    chunks: Chunks = None,
    rescale: bool = True,
    format: Literal["dicom"] | None = None,
    errors: Literal["raise", "warn"] = "raise",
) -> xr.DataArray:
    """Return one series as a lazy image with dims (tag dims..., slice, row, col).

    Headers are read now, pixels when they are indexed, and only the frames asked for.

    Parameters
    ----------
    source : path or list of paths
        A folder (with all below it), a zip archive, a file, or a list of these. Files may have any name; what is no
        DICOM image is passed over.
    order : str, int, callable, mapping or sequence of these
        The tag dims: ``"none"``, ``"time"`` [s], ``"triggertime"`` [s], ``"b"`` [s/mm2], ``"fa"`` [degree],
        ``"te"`` [ms], ``"image_type"``, ``"bvector"`` (number of the gradient direction), ``"dti"`` (number of the
        diffusion volume, with b-value and direction as coordinates ``b``, ``bx``, ``by``, ``bz``); a DICOM keyword, a
        tag, or a function of a `pydicom.Dataset`; several, as ``"time,te"`` or ``["time", {"ti": "InversionTime"}]``.
        ``"auto"`` takes the dims that vary, if only one choice fills the grid.
    series : str or int, optional
        SeriesInstanceUID, SeriesNumber or SeriesDescription, where several series are there.
    merge : bool
        Whether all series (that `series` and `where` leave) are read as one, for scanners that split an acquisition.
        They have to be of one patient, study and frame of reference.
    where : callable, optional
        Function of a `pydicom.Dataset`, the header of a file: whether the file is taken. Every header is read for it.
    missing : {"error", "fill"}
        What is done where the grid lacks frames: raise and name them, or fill with NaN (integers become floats;
        0 in colour images and segmentations) and say in the coordinate ``present`` which are there.
    duplicates : {"error", "first", "last", "stack"}
        What is done where several frames claim one place: raise and name them, keep one in the order of
        InstanceNumber, or keep all along a further dim ``duplicate``.
    chunks : int, "auto", mapping, optional
        Size of dask chunks, along all dims or by dim. ``"auto"`` and ``{}`` give chunks of whole frames, about 48 MiB
        each. None: no dask.
    rescale : bool
        Values in modality units (PS3.3 C.11.1): integers where slope and intercept are, else float32.
        False: stored values.
    format : "dicom", optional
        Format of the source.
    errors : {"raise", "warn"}
        What a damaged file does: raise, or be left out with a warning that names it.

    Returns
    -------
    DataArray
        ``slice``, ``row`` and ``col`` are positions [mm, LPS+] along the image axes, slices ascending along the normal.

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM image.
    MixedSeriesError
        If several series, orientations or stacks are there; the error lists them.
    OrderError
        If the order does not sort the frames; the error tells what varies between them.
    MissingFramesError, DuplicateFramesError
        If the grid has places with no frame or with several.
    UnreadableFileError
        If a file is damaged.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folders = ixr.sample.write_patient(getfixture("tmp_path") / "phantom")
    >>> image = ixr.open_series(folders / "dynamic_1", "time")
    >>> image.dims
    ('time', 'slice', 'row', 'col')
    """
    if format not in (None, "dicom"):
        msg = f"format={format!r} cannot be read; 'dicom' can"
        raise ValueError(msg)
    dataset = xr.open_dataset(
        source,  # type: ignore[arg-type] # a list of paths is handed on as it is
        engine=DicomBackendEntrypoint,
        cache=chunks is None,
        order=order,
        series=series,
        merge=merge,
        where=where,
        missing=missing,
        duplicates=duplicates,
        rescale=rescale,
        errors=errors,
    )
    image = dataset["image"]
    if chunks is None:
        return image
    # Chunked here, and not as it is opened, so that coordinates stay what they are; and any number of frames is as
    # good a chunk as the preferred one, of which xarray would warn.
    wanted = image.encoding["preferred_chunks"] if chunks == "auto" or chunks == {} else chunks
    return image.copy(data=image.variable.chunk(wanted).data)


def open_study(
    source: Source,
    order: Order = "auto",
    *,
    where: Callable[[PydicomDataset], bool] | None = None,
    missing: Missing = "error",
    duplicates: Duplicates = "error",
    chunks: Chunks = None,
    rescale: bool = True,
    errors: Literal["raise", "warn"] = "raise",
) -> xr.DataTree:
    """Return all series of a source as a DataTree, each node with a lazy variable ``image``.

    Patients and studies are levels of the tree where there are several; what all series share is in the attributes
    of the root. A series of several stacks has one child for each.

    Parameters
    ----------
    source, order, where, missing, duplicates, chunks, rescale
        As in `open_series`, for every series.
    errors : {"raise", "warn"}
        What a damaged file or a series that cannot be opened does: raise, or be left out with a warning that names it.

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM image.
    OrderError, MissingFramesError, DuplicateFramesError, UnreadableFileError, and others
        As in `open_series`, of the first series that cannot be opened; `errors` is "raise" then.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> tree = ixr.open_study(ixr.sample.write_patient(getfixture("tmp_path") / "phantom"))
    >>> sum(node.has_data for node in tree.subtree)
    5
    """
    return xr.open_datatree(
        source,  # type: ignore[arg-type] # a list of paths is handed on as it is
        engine=DicomBackendEntrypoint,
        chunks={} if chunks == "auto" else chunks,
        order=order,
        where=where,
        missing=missing,
        duplicates=duplicates,
        rescale=rescale,
        errors=errors,
    )


def scan(source: Source, *, errors: Literal["raise", "warn"] = "raise") -> pd.DataFrame:
    """Return a table of what a source holds, one row a stack of parallel slices; reads headers only.

    Parameters
    ----------
    source : path or list of paths
        Folders (with all below them), zip archives and files.
    errors : {"raise", "warn"}
        What a damaged file does: raise, or be left out with a warning that names it.

    Returns
    -------
    pandas.DataFrame
        The elements PatientID, StudyDate, StudyDescription, SeriesNumber, SeriesDescription, Modality and
        SeriesInstanceUID; the numbers ``stack``, ``frames``, ``slices``, ``rows`` and ``columns``; ``orientation``,
        letters of where slice, row and col lead; ``spacing``, distance of slices, rows, columns [mm], None for uneven
        slices; ``order``, the tag dims that fill the grid, as `imagedata_xr.open_series` takes them; ``shape``, sizes
        of the tag dims and slices; ``problem``, why no order is found, else "".

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM image.
    UnreadableFileError
        If a file is damaged, and `errors` is "raise".

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> table = ixr.scan(ixr.sample.write_patient(getfixture("tmp_path") / "phantom"))
    >>> table.set_index("SeriesDescription").loc["dynamic 1", "order"]
    'time'
    """
    from imagedata_xr.dicom.catalog import catalog

    return catalog(source, errors=errors)


def write(
    da: xr.DataArray, path: str | os.PathLike[str], *, format: Literal["dicom"] = "dicom", **options: Any
) -> list[Path]:
    """Return the files that an image was written to.

    Parameters
    ----------
    da : DataArray
        An image.
    path : path
        A folder, which appears complete or not at all.
    format : "dicom"
        What to write.
    **options
        See `imagedata_xr.dicom.write.write_dicom`.

    Raises
    ------
    FileExistsError
        If something is at `path`.
    ValueError
        If the image cannot be written; `imagedata_xr.dicom.write.write_dicom` lists why.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> image = ixr.open_series(ixr.sample.write_patient(folder / "phantom") / "ct")
    >>> len(ixr.write(image / 2, folder / "half"))
    12
    """
    from imagedata_xr.dicom.write import write_dicom

    if format != "dicom":
        msg = f"format={format!r} cannot be written; 'dicom' can"
        raise ValueError(msg)
    return write_dicom(da, path, **options)
