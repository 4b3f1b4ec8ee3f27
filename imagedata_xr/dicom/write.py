"""An image to DICOM files, one for each frame."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from imagedata_xr.ahead import ahead
from imagedata_xr.arguments import require_bools
from imagedata_xr.dicom.attributes import check_attributes
from imagedata_xr.dicom.basis import as_text, paired
from imagedata_xr.dicom.emission import check_not_mixed
from imagedata_xr.dicom.frames import places_of
from imagedata_xr.dicom.gradients import check_directions
from imagedata_xr.dicom.identity import (
    check_not_a_source,
    identity,
    of_one_series,
    reachable,
    warn_of_other_distances,
)
from imagedata_xr.dicom.job import ChangedError, Job
from imagedata_xr.dicom.label_elements import label_element, no_element
from imagedata_xr.dicom.mirrored import with_turned_orientation
from imagedata_xr.dicom.patcher import Patcher
from imagedata_xr.dicom.pixels import finite_values
from imagedata_xr.dicom.places import frame_places, warn_of_thickness
from imagedata_xr.dicom.save import Saver
from imagedata_xr.elements import to_value
from imagedata_xr.errors import (
    GeometryError,
    MissingHeaderError,
    OrderError,
    UnknownKeywordWarning,
    UnreadableFileError,
    ValuesNotStorableError,
)
from imagedata_xr.files import output_directory
from imagedata_xr.formats.labels import are_counted_from_first
from imagedata_xr.geometry import POSITION_TOLERANCE
from imagedata_xr.headers import source_dataset, values_of_frames, with_known_coords
from imagedata_xr.images import require_pictures
from imagedata_xr.keywords import keyword_meant
from imagedata_xr.names import TAG_DIMS
from imagedata_xr.origins import OF_PIXELS
from imagedata_xr.placement import with_frame_attrs
from imagedata_xr.quiet import without_validation
from imagedata_xr.times import in_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import xarray as xr
    from numpy.typing import NDArray

    from imagedata_xr.dicom.stored import Place

__all__ = ["write_dicom"]

_LIFETIME = 100 * 365.25 * 86400
"""Labels along time reach no further [s]."""
_WRITERS = 2
"""Threads that write."""


def write_dicom(
    da: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    template: xr.DataArray | None = None,
    keep_uid: bool = False,
    overwrite: bool = False,
    keep_private: bool | None = None,
    nan: float | Literal["raise"] = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Return the files that an image was written to, one a frame, tag dims outermost and slices innermost.

    The files are Explicit VR Little Endian and named after InstanceNumber: ``00001.dcm`` and so on. They are a
    new series, with new UIDs, of the same patient, study and frame of reference. The directory appears when it
    is complete. Values are computed volume by volume.

    Header
        Each frame starts from the header of its source file, private elements and sequences included. Frames
        that name no file any more (the mean of two series, or over time), and frames of files of many, start from
        attributes and coordinates. What the user has set in attributes wins. Geometry always follows from the
        coordinates; so do b-value, echo time, flip angle, and the elements that dims are named after. Attributes
        that are no keywords are left out, with a warning (`UnknownKeywordWarning`) where one is nearly one.
    Original
        An image whose stored values and geometry are those of its source files (of one frame each), or a selection of
        whole frames of it, is written with the same stored values, rescale and private elements; of these, those
        that tell b-value or gradient are left out where the user has set others. Overlays in bits of the pixels
        become elements of their own.
    Derived
        Any other image has ImageType ``DERIVED``, a DerivationDescription, a SourceImageSequence where the frame
        it was made of is known, and the SeriesNumber of its source plus 1000, unless the user has set another.
        (Where frames name no file, a number that was inherited looks like one that was set, and stays.)
        Private elements are dropped.
    Values
        Whole numbers are stored as they are if they span 16 bits. Other numbers are rescaled for each volume to
        use the full 16 bits: they come back to within half a RescaleSlope.
    Colours
        Images with the dim ``rgb``, uint8 or uint16, are stored as RGB. MR, CT and other kinds of image that have no
        colours (PS3.3 A.4 and others) become Secondary Capture images, which keep their modality, place and labels.

    Parameters
    ----------
    da : DataArray
        Image with the dims ``row``, ``col``, ``slice`` (or one slice), any tag dims, and ``rgb`` if it has colours.
        It is not changed.
        Frames whose ``present`` is False are left out.
    path : path-like
        Directory to write; it must not exist, or be empty, unless `overwrite`.
    template : DataArray, optional
        Image whose frames give the headers, and so say whose image this is. Volumes correspond as in
        `imagedata_xr.templates.copy_headers`: by labels, b-values and directions, and by their order where they are
        only counted; a dim that the template lacks, or has one of, serves for all. Slices correspond by their place,
        those of an image that lies elsewhere by their number.
    keep_uid : bool
        Keep SeriesInstanceUID and SOPInstanceUIDs, and every other element. Only for an unchanged original.
    overwrite : bool
        Replace a directory that holds nothing but DICOM files, and none that this image is read from.
    keep_private : bool, optional
        Whether to keep private elements. None keeps those of an original. In a derived image they may say what
        is no longer so, such as the scale of its values.
    nan : float or "raise"
        What to store for NaN and infinity.
    progress : callable, optional
        Called after each file with two numbers: of files written, and of all.

    Raises
    ------
    ConflictingOriginError
        If the image was made of several patients, studies or frames of reference, or attributes name another, or are
        of one of several series alone.
    MissingHeaderError
        If what a valid file needs is absent, volumes have no labels, or frames are of a kind that has no files of one
        image.
    ValuesNotStorableError
        If values are complex, not finite, or integers of more than 16 bits, or colours neither uint8 nor uint16.
    GeometryError
        If positions are absent, rows or columns are not evenly spaced, or slices are at one place; if only some lie at
        slices of the template.
    PairingError
        If volumes do not correspond to those of the template.
    OrderError
        If volumes have the same label, labels only count volumes, or times are more than a lifetime away.
    FileExistsError
        If something is at `path`; with `overwrite` other files than DICOM, or those that this image is read from.
    PermissionError
        If the directory that is to be replaced may not be written to.
    UnreadableFileError
        If some of the source files are gone.
    ValueError
        If an element cannot hold what the user has set it to, `keep_uid` is asked for what is not an
        unchanged original, or missing frames were filled, though ``present`` is False; if the image is empty or has
        not the dims, none of its frames is present, or its values are of other files than its coordinates.
    TypeError
        If `keep_uid`, `overwrite` or `keep_private` is neither True nor False.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> series = ixr.sample.write_patient(folder / "phantom")
    >>> image = ixr.open_series(series / "dynamic_1", "time")
    >>> files = write_dicom(image.isel(time=0) * 2, folder / "double")
    >>> files[0].name, len(files) == image.sizes["slice"]
    ('00001.dcm', True)
    """
    target = Path(path)
    _warn_of_slips(da)
    require_bools(keep_uid=keep_uid, overwrite=overwrite, keep_private=keep_private is None or keep_private)
    _check_colours(da)
    image = _canonical(da) if keep_uid else of_one_series(_canonical(da))
    _check_sources(image)
    whose = image
    if template is not None:
        image, whose = paired(image, _canonical(template))
    if overwrite:
        check_not_a_source(target, (image, whose))
    common: dict[str, Any] = {
        "da": image,
        "template": None if template is None else whose,
        "identity": identity(whose, is_template=template is not None),
        "places": frame_places(image),
        "from_files": reachable(whose),
        "keep_private": keep_private,
        "nan": nan,
        "progress": progress,
    }
    if common["places"] is None and common["from_files"] and template is None:
        image = whose = common["da"] = with_turned_orientation(image)
    _check_apart(image, whose if common["from_files"] else None)
    check_attributes(image, template=template)
    check_not_mixed(image)
    warn_of_thickness(image, common["places"])
    reason = _not_original(Job(**common, original=False, is_old=False, keep_uid=False))
    # Scanners write elements that are not valid; what the user has set is looked at in _check_settings.
    with without_validation():
        if not reason:
            try:
                return _write(Job(**common, original=True, is_old=False, keep_uid=keep_uid), target, overwrite)
            except ChangedError as changed:
                reason = str(changed)
        if keep_uid:
            raise ValueError(
                f"keep_uid=True is for an unchanged original only, but {reason}: write a new series without it"
            )
        if common["places"] is None:
            warn_of_other_distances(image, template)
            _warn_of_other_size(image, whose, from_files=common["from_files"])
        job = Job(**common, original=False, is_old=False, keep_uid=False)
        if job.is_untouched and job.from_files and template is None and not job.is_colour:
            with suppress(ChangedError):
                return _write(replace(job, is_old=True), target, overwrite)
        with suppress(ChangedError):
            return _write(job, target, overwrite)
        return _write(replace(job, may_be_as_read=False), target, overwrite)


def _write(job: Job, target: Path, overwrite: bool) -> list[Path]:
    """Write all frames, or raise and leave nothing."""
    numbers = _instance_numbers(job)
    names: list[str] = []
    uids: set[str] = set()
    patcher = Patcher(job)
    # A volume is read while the one before is made.
    with output_directory(target, overwrite=overwrite) as folder, ThreadPoolExecutor(_WRITERS) as threads:
        saver = Saver(threads, _WRITERS, in_turns=job.original or job.da.dtype.kind in "iu")
        for volume in _lying_volumes(job) or ahead(_volumes(job)):
            there = _present(job, volume.where)
            if not there.any():
                continue
            slices = [int(k) for k in np.flatnonzero(there)]
            first = len(names)
            numbered = dict(zip(slices, numbers[first : first + len(slices)], strict=True))
            if volume.values is not None:
                _check_absent(volume.values[~there], volume.where)
            load, lying = cache(partial(_planes, job, volume, there)), [volume.lying[k] for k in slices]
            for uid, file in patcher.files(volume.where, numbered, load, lying):
                uids.add(uid)
                names.append(f"{numbers[len(names)]:05d}.dcm")
                saver.add(f"{folder}{os.sep}{names[-1]}", file)
                if len(uids) < len(names):
                    raise ValueError("keep_uid=True needs frames that differ, but one is in the image more than once")
                if job.progress is not None:
                    job.progress(len(names), len(numbers))
        saver.hand_over()
        files = [target / name for name in names]
        saver.wait()
    return files


def _warn_of_slips(da: xr.DataArray) -> None:
    """Warn of attributes that a slip of the pen keeps from being written."""
    meant = {name: keyword_meant(name) for name in da.attrs if isinstance(name, str)}
    slips = [f"{name} ({keyword}?)" for name, keyword in meant.items() if keyword]
    if slips:
        msg = f"attributes that are no DICOM keywords are not written: {', '.join(slips)}"
        warnings.warn(msg, UnknownKeywordWarning, stacklevel=3)


def _warn_of_other_size(image: xr.DataArray, whose: xr.DataArray, *, from_files: bool) -> None:
    """Warn where nothing tells whether the distance of pixels is still that of the file: without a place none is.

    The file is that of the image whose headers are used. Frames of a file of many are written with attributes only.
    """
    first = whose.isel({dim: 0 for dim in whose.dims if dim not in ("row", "col", "rgb")})
    header = None
    with suppress(UnreadableFileError):  # frames of a file of many are written although it is gone
        header = source_dataset(first)
    if header is None:
        return
    size, before = (image.sizes["row"], image.sizes["col"]), (header.get("Rows"), header.get("Columns"))
    names = [name for name in OF_PIXELS if from_files or name in first.attrs]
    told = {name: to_value(header[name]) for name in names if header.get(name)}
    is_set = any(as_text(image.attrs[name]) != as_text(told[name]) for name in told if name in image.attrs)
    if size != before and told and not is_set:
        msg = (
            f"{size[0]} x {size[1]} pixels of {before[0]} x {before[1]} are written with the {' and '.join(told)} of "
            "their file. That is right of a part of the picture; where pixels were left out or put together set "
            f"image.attrs[{next(iter(told))!r}] [mm]"
        )
        warnings.warn(msg, stacklevel=4)


def _check_colours(da: xr.DataArray) -> None:
    """Raise ValuesNotStorableError for colours that are none."""
    if "rgb" in da.dims and (da.sizes["rgb"] != 3 or da.dtype.kind != "u" or da.dtype.itemsize > 2):
        raise ValuesNotStorableError(
            f"colours are 3 values along rgb, uint8 or uint16, these are {da.sizes['rgb']} of {da.dtype}: "
            "image.round().clip(0, 255).astype('uint8') makes such of computed ones; image.isel(rgb=0) is one"
        )


def _canonical(da: xr.DataArray) -> xr.DataArray:
    """Return the image with the dims (tag dims..., slice, row, col)."""
    require_pictures(da)
    da = with_frame_attrs(in_seconds(with_known_coords(da)))
    if "slice" not in da.dims:
        da = da.expand_dims("slice")
    return da.transpose(..., "slice", "row", "col", *(["rgb"] if "rgb" in da.dims else []))


def _check_sources(image: xr.DataArray) -> None:
    """Raise ValueError if values that are not read yet lie in other files than those that the coordinates name.

    A Dataset has each coordinate once: an image that is put in one by its name gets those of the images before it. An
    image that was given the header of another has another encoding.
    """
    is_as_opened = "source" in image.coords and "TransferSyntaxUID" in image.encoding
    lying = places_of(image.variable) if is_as_opened else None
    if lying is None:
        return
    for place, path in zip(lying, values_of_frames(image, "source").ravel().tolist(), strict=True):
        if place is not None and path and place.path != path:
            raise ValueError(
                f"the values are those of {place.path}, but the coordinates, and so header and labels, are of {path}, "
                "as when several images are put in one Dataset: write the images as they were before, or keep them in "
                "a dict or DataTree"
            )


def _check_apart(image: xr.DataArray, headers: xr.DataArray | None) -> None:
    """Raise where no reader could tell frames apart; `headers` is the image whose headers are read from its files.

    Raises
    ------
    MissingHeaderError
        If volumes have no labels, and no headers of their own.
    OrderError
        If volumes have the same label, or labels only count them.
    GeometryError
        If slices are at one place.
    """
    for dim in image.dims[: image.dims.index("slice")]:
        size = image.sizes[dim]
        have_own = headers is not None and dim in headers.coords["source"].dims
        if size > 1 and dim not in image.coords:
            if not have_own:
                raise MissingHeaderError(
                    f"the dim {dim!r} has no labels, so nothing would tell its {size} volumes apart: name it after an "
                    f"element and give it some, such as image.rename({dim}='EchoTime').assign_coords(EchoTime=...)"
                )
        elif size > 1:
            if not have_own and dim not in TAG_DIMS and not label_element(image.coords[dim])[0]:
                raise no_element(dim)
            if not have_own and dim in ("dti", "bvector"):
                check_directions(image, dim)
            if dim != "time" and are_counted_from_first(image.coords[dim]) and label_element(image.coords[dim])[0]:
                raise OrderError(
                    f"the labels of {dim!r} only count the volumes of a file that does not tell them, so they are no "
                    f"values of {label_element(image.coords[dim])[0]}: give them with assign_coords({dim}=[...]), or "
                    "give template= an image that has them"
                )
            labels = image.coords[dim].values.tolist()
            if dim == "time":
                labels = _in_microseconds(labels)
            label, count = Counter("NaN" if one != one else one for one in labels).most_common(1)[0]
            if count > 1:
                raise OrderError(
                    f"several volumes along {dim!r} have the label {label!r}, so no reader could tell them apart: give "
                    f"each its own with assign_coords({dim}=...)"
                )
    if "slice" in image.coords and (np.diff(np.sort(image.coords["slice"].values)) < POSITION_TOLERANCE).any():
        raise GeometryError(
            "several slices are at one place, so no reader could tell them apart: drop those that are there twice, "
            "image.drop_duplicates('slice'), or put them along a dim of their own"
        )


def _in_microseconds(labels: list[Any]) -> list[Any]:
    """Return labels along time [s] to the microsecond, which is what elements tell.

    Raises
    ------
    OrderError
        If one is further away than a lifetime.
    """
    if any(isinstance(label, int | float) and abs(label) > _LIFETIME for label in labels):
        raise OrderError(
            f"labels of 'time' reach {max(map(abs, labels)):.6g} s, more than a lifetime: they have to be in seconds"
        )
    return [round(label, 6) if isinstance(label, float) else label for label in labels]


def _check_absent(values: NDArray[Any], where: dict[str, int]) -> None:
    """Raise ValueError if frames that are left out, since they are not there, have got values."""
    if (np.isfinite(values) if values.dtype.kind in "fc" else values != 0).any():
        raise ValueError(
            f"frames{_volume_name(where)} are missing, as the coordinate 'present' says, but have got values: to write "
            "them drop it, image.drop_vars('present'); to leave them out write image.where(image.present"
            f"{')' if values.dtype.kind in 'fc' else ', 0)'}"
        )


def _not_original(job: Job) -> str:
    """Return why an image cannot be an original, "" if it may be one."""
    if job.template is not None:
        return "a template was given"
    if not job.is_untouched:
        return "its values were computed, or come from a file of another format"
    if job.da.encoding.get("tiled"):
        return "each of its files holds many slices"
    if "source_frame" in job.da.coords:
        return "its frames are of a file of many, and written as files of their own"
    return "" if job.from_files else "its source files are not known, or not there"


class _Volume(NamedTuple):
    """The frames of an image that differ in their slice alone."""

    where: dict[str, int]
    """Its number along each tag dim."""
    values: NDArray[Any] | None
    """Shape (slice, row, col); None where they are not read yet."""
    lying: list[Place | None]
    """Where the values of each slice lie, if they are not read yet."""


def _volumes(job: Job) -> Iterator[_Volume]:
    """Yield the volumes of an image. A dask chunk may hold several: it is computed once."""
    da, tags, slices = job.da, job.tag_dims, job.da.sizes["slice"]
    blocks = []
    for dim in tags:
        sizes = da.chunksizes.get(dim, (1,) * da.sizes[dim])
        stops = np.cumsum(sizes).tolist()
        blocks.append([slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)])
    for corner in product(*blocks):
        values = da.variable.isel(dict(zip(tags, corner, strict=True))).values
        for inner in np.ndindex(values.shape[: len(tags)]):
            index = {dim: part.start + i for dim, part, i in zip(tags, corner, inner, strict=True)}
            yield _Volume(index, values[inner], [None] * slices)


def _lying_volumes(job: Job) -> list[_Volume]:
    """Return the volumes of an original that is not read yet: what it has in its files need not be, to be written."""
    da = job.da
    lying = places_of(da.variable) if job.original else None
    if lying is None:
        return []
    tags, slices = job.tag_dims, da.sizes["slice"]
    indices = np.ndindex(da.shape[: len(tags)])
    return [
        _Volume(dict(zip(tags, index, strict=True)), None, lying[number * slices : (number + 1) * slices])
        for number, index in enumerate(indices)
    ]


def _planes(job: Job, volume: _Volume, there: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the values of the slices that are there."""
    values = job.da.variable.isel(volume.where).values if volume.values is None else volume.values
    return finite_values(values if there.all() else values[there], job.nan, _volume_name(volume.where))


def _present(job: Job, index: dict[str, int]) -> NDArray[np.bool_]:
    """Return which slices of a volume are there."""
    there = np.ones(job.da.sizes["slice"], bool)
    if "present" in job.da.coords:
        there &= job.da.coords["present"].isel(index, missing_dims="ignore").values
    return there


def _instance_numbers(job: Job) -> list[int]:
    """Return InstanceNumber of each frame to write: those of an original if they differ, else 1, 2, ..."""
    there = np.ones([job.da.sizes[dim] for dim in (*job.tag_dims, "slice")], bool)
    if "present" in job.da.coords:
        there &= values_of_frames(job.da, "present")
    count = int(there.sum())
    if not count:
        raise ValueError("none of the frames is present: there is nothing to write")
    if job.original and "InstanceNumber" in job.da.coords:
        values = values_of_frames(job.da, "InstanceNumber")[there]
        if values.dtype.kind == "i" and len(np.unique(values)) == count and values.min() >= 0:
            return [int(value) for value in values]
    return list(range(1, count + 1))


def _volume_name(index: dict[str, int]) -> str:
    return " of volume " + ", ".join(f"{dim}={number}" for dim, number in index.items()) if index else ""
