"""The public functions: see what is there, open, write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

from imagedata_xr.arguments import check_chunked_dims, check_chunks, require_bools
from imagedata_xr.backend import DicomBackendEntrypoint
from imagedata_xr.errors import OrderError
from imagedata_xr.files import place_here
from imagedata_xr.formats.recognise import recognised
from imagedata_xr.formats.registry import check_name, format_of, get_format, writer_of
from imagedata_xr.images import require_image
from imagedata_xr.local_copies import local_copy
from imagedata_xr.outputs import is_packed_or_remote, output_elsewhere, output_file_elsewhere
from imagedata_xr.pacs.peer import is_pacs
from imagedata_xr.pacs.web import is_web
from imagedata_xr.streams import is_archive
from imagedata_xr.templates import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import pandas as pd
    from pydicom import Dataset as PydicomDataset

    from imagedata_xr.dicom.sort import Duplicates, Missing
    from imagedata_xr.dicom.tags import Order
    from imagedata_xr.sources import Source

__all__ = ["from_array", "open_series", "open_study", "scan", "write"]

Chunks = int | Literal["auto"] | Mapping[Any, Any] | None
Like = xr.DataArray | str | os.PathLike[str]
"""An image, or where it is."""

PHANTOM: Final = "phantom"
"""The template of nobody: a header that is clearly of a phantom."""


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
    format: str | None = None,
    errors: Literal["raise", "warn"] = "raise",
    index: str | os.PathLike[str] | None = None,
    template: Like | None = None,
    geometry: Like | Literal["image"] | None = None,
    extend: bool = False,
    options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Return one series as a lazy image with dims (tag dims..., slice, row, col).

    Headers are read now, pixels when they are indexed, and only the frames asked for.

    Parameters
    ----------
    source : path or list of paths
        A folder (with all below it), a zip or tar archive, a file, a URL, a pattern of paths or URLs
        (``"study/*.dcm"``), or a list of these. DICOM files may have any name; what is no DICOM image is passed over.
        Where there is none, the files of the one other format that is there are read.
        Or a PACS: ``dicom://host:port/AETITLE/PATIENT/STUDY/SERIES``, study by UID or accession number, series by UID
        or number; see `imagedata_xr.pacs.retrieve.fetched`. Of ``dicomweb+https://server/path/studies/UID/series/UID``
        headers are fetched now, and frames when they are indexed.
    order : str, int, callable, mapping or sequence of these
        The tag dims: ``"none"``, ``"time"`` [s], ``"triggertime"`` [s], ``"b"`` [s/mm2], ``"fa"`` [degree],
        ``"te"`` [ms], ``"image_type"``, ``"bvector"`` (number of the gradient direction), ``"dti"`` (number of the
        diffusion volume, with b-value and direction as coordinates ``b``, ``bx``, ``by``, ``bz``); a DICOM keyword or
        tag, also named, ``"ti=InversionTime"``; a function of a `pydicom.Dataset`, also ``{"x": function}``; several,
        ``"time,te"``. ``"auto"`` takes the dims that vary, if only one choice fills the grid.
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
        What is done where several frames claim one place: raise and name them, keep one of copies in the order of
        InstanceNumber, or keep all along a further dim ``duplicate``.
    chunks : int, "auto", mapping, optional
        Size of dask chunks, along all dims or by dim. ``"auto"`` and ``{}`` give chunks of whole frames, about 48 MiB
        each. None: no dask.
    rescale : bool
        Values in modality units (PS3.3 C.11.1): integers where slope and intercept are, else float32.
        False: stored values.
    format : str, optional
        Format of the source: ``"dicom"``, ``"nifti"``, ``"itk"``, ``"mat"``, ``"raster"``, ``"netcdf"``, ``"zarr"``, or
        that of a plug-in. None finds it out.
    errors : {"raise", "warn"}
        What a damaged file does: raise, or be left out with a warning that names it.
    index : path, optional
        Folder that keeps what headers say: of DICOM files that it knows, and that have not changed in size and time,
        nothing is read, and it gets the others. It is made when it is not there. Needs pyarrow.
    template : DataArray or path, optional
        Image, or its source, that gives patient, study and header, frame by frame where frames correspond; see
        `imagedata_xr.templates.copy_headers`. ``"phantom"`` is the header of nobody.
    geometry : DataArray, path or "image", optional
        Image, or its source, that gives place, frame of reference and tag values; see
        `imagedata_xr.templates.copy_geometry`. ``"image"`` keeps the own place though the template has another.
    extend : bool
        Whether the image may have more slices or volumes than template and geometry.
    options : mapping, optional
        What the format's own reader takes, such as ``{"variable": "A"}`` for MAT; of a PACS what
        `imagedata_xr.pacs.retrieve.retrieve` takes, such as ``{"how": "move"}``.

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
    ValueError, TypeError
        If an argument is none of what it may be, or of DICOM where the source is of another format, or the other way
        round.
    GeometryError, PairingError, MissingHeaderError
        If `template` or `geometry` do not go with the image, as in `imagedata_xr.templates.copy_headers`.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folders = ixr.sample.write_patient(getfixture("tmp_path") / "phantom")
    >>> image = ixr.open_series(folders / "dynamic_1", "time")
    >>> image.dims
    ('time', 'slice', 'row', 'col')
    """
    require_bools(merge=merge, rescale=rescale, extend=extend)
    check_chunks(chunks)
    if is_pacs(source):
        source, options = _from_pacs(source, options), None
    elif is_web(source):
        source = _from_pacs(source)
    found, paths = recognised(source, format, errors)
    if found == "dicom":
        if options:
            msg = f"options={dict(options)!r} are of other formats; DICOM has none"
            raise TypeError(msg)
        dataset = xr.open_dataset(
            paths or source,  # type: ignore[arg-type] # a list of paths is handed on as it is
            engine=DicomBackendEntrypoint,
            cache=chunks is None,
            create_default_indexes=False,  # they are made already
            order=order,
            series=series,
            merge=merge,
            where=where,
            missing=missing,
            duplicates=duplicates,
            rescale=rescale,
            errors=errors,
            index=index,
        )
        image = dataset["image"]
    else:
        given = {
            "series": series,
            "merge": merge or None,
            "where": where,
            "index": index,
            "rescale": None if rescale else rescale,
        }
        given |= {"missing": None if missing == "error" else missing}
        given |= {"duplicates": None if duplicates == "error" else duplicates}
        if only := [name for name, value in given.items() if value is not None]:
            msg = f"{', '.join(only)} can be given for DICOM only; this is {found}"
            raise TypeError(msg)
        kind = get_format(found)
        if kind.read is None:
            msg = f"format={found!r} can be written, but not read"
            raise ValueError(msg)
        image = kind.read(local_copy(paths, kind.beside), order, **(options or {}))
    image = _given(image, template, geometry, order, extend=extend)
    if chunks is None:
        return image
    check_chunked_dims(chunks, image.dims)
    # Chunked here, and not as it is opened, so that coordinates stay what they are; and any number of frames is as
    # good a chunk as the preferred one, of which xarray would warn.
    wanted = image.encoding.get("preferred_chunks", {}) if chunks == "auto" or chunks == {} else chunks
    try:
        return image.copy(data=image.variable.chunk(wanted).data)
    except (ValueError, TypeError, ZeroDivisionError) as err:
        msg = (
            f"chunks={chunks!r}: a number of frames, 'auto', or numbers by dim such as {{'time': 1}} are wanted ({err})"
        )
        raise ValueError(msg) from err


def _from_pacs(url: Source, options: Mapping[str, Any] | None = None) -> Source:
    """Return a folder with what a URL names in a PACS, or the URLs of the instances that it names in DICOMweb."""
    if is_web(url):
        from imagedata_xr.dicom.scan import list_files

        return list_files(url)
    from imagedata_xr.pacs.retrieve import fetched

    return fetched(str(url), **(options or {}))


def _is_word(value: object, word: str) -> bool:
    return isinstance(value, str) and value == word


def _opened(like: Like | None, order: Order) -> xr.DataArray | None:
    """Return an image, opened if it is a source: in the same order, if it has one, else in the one that it shows."""
    if like is None or isinstance(like, xr.DataArray):
        return like
    try:
        return open_series(like, order)
    except OrderError:
        return open_series(like)


def _given(
    image: xr.DataArray, template: Like | None, geometry: Like | Literal["image"] | None, order: Order, *, extend: bool
) -> xr.DataArray:
    """Return the image with the header and the place that are named, if any are."""
    place: xr.DataArray | Literal["image"] | None
    place = "image" if _is_word(geometry, "image") else _opened(geometry, order)
    if _is_word(template, PHANTOM):
        from imagedata_xr.phantom import of_nobody

        return of_nobody(apply(image, geometry=place, extend=extend))
    return apply(image, template=_opened(template, order), geometry=place, extend=extend)


def from_array(
    values: Any,
    dims: Sequence[Hashable] | str | None = None,
    *,
    template: Like | None = None,
    geometry: Like | Literal["image"] | None = None,
    extend: bool = False,
) -> xr.DataArray:
    """Return plain values as an image, with the header of one image and the place of another.

    Parameters
    ----------
    values : array_like
        Values with the axes of `dims`. A DataArray keeps its dims, coordinates and attributes.
    dims : sequence of str, optional
        Names of the axes, tag dims first: by default ``slice, row, col`` with ``volume`` before them for a fourth axis.
        They have to be named where the last axis may be colours, as of uint8 with 3 there.
    template, geometry, extend
        As in `open_series`.

    Raises
    ------
    ValueError
        If the names are not as many as the axes, or row or col is not among them; if colours are not told from columns.
    GeometryError, PairingError, MissingHeaderError
        As in `imagedata_xr.templates.copy_headers`.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> a = ixr.open_series(ixr.sample.write_patient(getfixture("tmp_path") / "phantom") / "dynamic_1", "time")
    >>> result = ixr.from_array(a.values.max(axis=0), template=a, geometry=a)
    >>> result.dims, result.attrs["PatientID"] == a.attrs["PatientID"]
    (('slice', 'row', 'col'), True)
    """
    if not hasattr(values, "ndim"):
        values = np.asarray(values)
    if dims is None:
        is_image = isinstance(values, xr.DataArray) and {"row", "col"} <= {*values.dims}
        if not is_image and values.ndim >= 3 and values.shape[-1] == 3 and values.dtype == np.uint8:
            msg = (
                f"uint8 of shape {values.shape} may be colours or 3 columns: say what the axes are, "
                "dims='row,col,rgb' or 'slice,row,col,rgb', or 'slice,row,col'"
            )
            raise ValueError(msg)
        dims = values.dims if is_image else ("volume", "slice", "row", "col")[max(0, 4 - values.ndim) :]
    names: tuple[Hashable, ...] = tuple(dims.split(",")) if isinstance(dims, str) else tuple(dims)
    if len(names) != values.ndim or not {"row", "col"} <= set(names):
        msg = f"the values have {values.ndim} axes; dims={list(names)} has to name each, row and col among them"
        raise ValueError(msg)
    require_bools(extend=extend)
    image = xr.DataArray(values, dims=names, name="image")
    order = [str(name) for name in names if name not in ("slice", "row", "col", "rgb")] or "none"
    return _given(image, template, geometry, order, extend=extend)


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
    index: str | os.PathLike[str] | None = None,
) -> xr.DataTree:
    """Return all series of a source as a DataTree, each node with a lazy variable ``image``.

    Patients and studies are levels of the tree where there are several; what all series share is in the attributes
    of the root. A series of several stacks has one child for each.

    Parameters
    ----------
    source, order, where, missing, duplicates, chunks, rescale, index
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
    check_chunks(chunks)
    source = _from_pacs(source) if is_pacs(source) or is_web(source) else source
    tree = xr.open_datatree(
        source,  # type: ignore[arg-type] # a list of paths is handed on as it is
        engine=DicomBackendEntrypoint,
        chunks={} if chunks == "auto" else chunks,
        order=order,
        where=where,
        missing=missing,
        duplicates=duplicates,
        rescale=rescale,
        errors=errors,
        index=index,
    )
    # Some images may lack a dim that others have.
    dims = dict.fromkeys(dim for node in tree.subtree for dim in node.dims)
    check_chunked_dims(chunks, dims, "no series has a dim")
    return tree


def scan(
    source: Source, *, errors: Literal["raise", "warn"] = "raise", index: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Return a table of what a source holds, one row a stack of parallel slices; reads headers only.

    Parameters
    ----------
    source : path or list of paths
        As in `open_series`: folders (with all below them), files, archives, patterns and URLs, or what a PACS has.
    errors : {"raise", "warn"}
        What a damaged file does: raise, or be left out with a warning that names it.
    index : path, optional
        Folder that keeps what headers say, as in `open_series`.

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

    source = _from_pacs(source) if is_pacs(source) or is_web(source) else source
    return catalog(source, errors=errors, index=index)


def write(da: xr.DataArray, path: str | os.PathLike[str], *, format: str | None = None, **options: Any) -> list[Any]:
    """Return the files that an image was written to, or what became of the instances that were sent to a PACS.

    Parameters
    ----------
    da : DataArray
        An image.
    path : path
        A folder to make, or a file whose name ends as those of the format do; DICOM is one file a frame, in a folder.
        It appears complete or not at all.
        Or a PACS, ``dicom://host:port/AETITLE`` or ``dicomweb+https://server/path``: see
        `imagedata_xr.pacs.outgoing.send_image`.
    format : str, optional
        What to write, see `open_series`. None takes the format that the end of the path says, else DICOM.
    **options
        See the writer of the format: `imagedata_xr.dicom.write.write_dicom`,
        `imagedata_xr.formats.nifti_write.write_nifti` and so on. All take `overwrite`, but a PACS, where nothing is
        replaced.

    Returns
    -------
    list of Path
        For a PACS a `imagedata_xr.pacs.report.Report`, a list of what became of each instance.

    Raises
    ------
    FileExistsError
        If something is at `path`.
    TypeError
        If `da` is no DataArray.
    ValueError
        If the image cannot be written; the writer of the format lists why. If the path is the name of a file of
        another format, or of one file of DICOM.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> image = ixr.open_series(ixr.sample.write_patient(folder / "phantom") / "ct")
    >>> len(ixr.write(image / 2, folder / "half"))
    12
    >>> [file.name for file in ixr.write(image, folder / "ct.nii.gz")]
    ['ct.json', 'ct.nii.gz']
    """
    require_image(da)
    require_bools(overwrite=options.get("overwrite", False))
    template = options.pop("template", None)
    if _is_word(template, PHANTOM):
        from imagedata_xr.phantom import of_nobody

        da = of_nobody(da)
    elif template is not None:
        options["template"] = _opened(template, "auto")
    if is_pacs(path) or is_web(path):
        from imagedata_xr.pacs.outgoing import send_image

        if format not in (None, "dicom"):
            msg = f"format={format!r}: a PACS takes DICOM only"
            raise ValueError(msg)
        return send_image(da, os.fspath(path), **options)
    if is_packed_or_remote(path):
        place = os.path.expanduser(path)  # noqa: PTH111 - a Path would make another URL of one
        overwrite = options.pop("overwrite", False)
        one_file = None if is_archive(place) else format_of(place)
        check_name(place, format or one_file or "dicom")
        if one_file:
            kind = get_format(one_file)
            with output_file_elsewhere(place, kind.suffixes, kind.beside, overwrite=overwrite) as file:
                written = write(da, file, format=format or one_file, **options)
            return [Path(place).with_name(file.name) for file in written]
        with output_elsewhere(place, overwrite=overwrite) as folder:
            written = write(da, folder, format=format, **options)
        return [Path(place)] if is_archive(place) else [Path(f"{place}/{file.name}") for file in written]
    path = place_here(path)
    name = format or format_of(path) or "dicom"
    check_name(path, name)
    return writer_of(name, options)(da, path, **options)
