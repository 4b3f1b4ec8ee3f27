"""An image to DICOM files, one for each frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from imagedata_xr.dicom.basis import first_header, template_frame
from imagedata_xr.dicom.derive import (
    drop_private,
    drop_stale_elements,
    fill_required,
    make_encodable,
    mark_derived,
    set_labels,
    set_new_times,
    set_time,
)
from imagedata_xr.dicom.identity import check_not_a_source, identity, reachable, several_series
from imagedata_xr.dicom.pixels import (
    PET,
    choose_rescale,
    describe_pixels,
    finite_values,
    rescale_before,
    set_pixel_data,
    source_format,
    stored_as_before,
    value_range,
)
from imagedata_xr.dicom.places import Places, frame_places, set_place
from imagedata_xr.dicom.stored import WHOLE, Place, read_stored
from imagedata_xr.errors import MissingHeaderError, ValuesNotStorableError
from imagedata_xr.files import output_directory
from imagedata_xr.headers import header_values, with_known_coords

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.dicom.pixels import ValueRange
    from imagedata_xr.elements import Value

__all__ = ["write_dicom"]

_TIMES: Final = frozenset(("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "TriggerTime"))
_DERIVED_SERIES: Final = 1000
"""What is added to the SeriesNumber of the source, to give that of a derived series."""


class _ChangedError(Exception):
    """An image that looked like an original is none; says why."""


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
        coordinates; so do b-value, echo time, flip angle, and the elements that dims are named after.
    Original
        An image whose stored values and geometry are those of its source files, or a selection of whole frames
        of it, is written with the same stored values, rescale and private elements.
    Derived
        Any other image has ImageType ``DERIVED``, a DerivationDescription, a SourceImageSequence where the frame
        it was made of is known, and the SeriesNumber of its source plus 1000, unless the user has set another.
        (Where frames name no file, a number that was inherited looks like one that was set, and stays.)
        Private elements are dropped.
    Values
        Whole numbers are stored as they are if they span 16 bits. Other numbers are rescaled for each volume to
        use the full 16 bits: they come back to within half a RescaleSlope.

    Parameters
    ----------
    da : DataArray
        Image with the dims ``row``, ``col``, ``slice`` (or one slice) and any tag dims. It is not changed.
        Frames whose ``present`` is False are left out.
    path : path-like
        Directory to write; it must not exist, or be empty, unless `overwrite`.
    template : DataArray, optional
        Image whose frames give the headers, and so say whose image this is. Frames correspond by their number
        along each dim; a dim that the template lacks, or has one of, serves for all.
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
        If the image was made of several patients, studies or frames of reference, or attributes name another.
    MissingHeaderError
        If what a valid file needs is absent, or frames are of a kind that has no files of one image.
    ValuesNotStorableError
        If values are complex, not finite, colours, or integers of more than 16 bits.
    GeometryError
        If positions are absent, or rows or columns are not evenly spaced.
    FileExistsError
        If something is at `path`.
    UnreadableFileError
        If some of the source files are gone.
    ValueError
        If an element cannot hold what the user has set it to, or `keep_uid` is asked for what is not an
        unchanged original.

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
    from pydicom.config import disable_value_validation

    target = Path(path)
    image = _canonical(da)
    whose = image if template is None else _canonical(template)
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
    reason = _not_original(_Job(**common, original=False, keep_uid=False))
    # Scanners write elements that are not valid; what the user has set is looked at in _check_settings.
    with disable_value_validation():
        if not reason:
            try:
                return _write(_Job(**common, original=True, keep_uid=keep_uid), target, overwrite)
            except _ChangedError as changed:
                reason = str(changed)
        if keep_uid:
            raise ValueError(
                f"keep_uid=True is for an unchanged original only, but {reason}: write a new series without it"
            )
        return _write(_Job(**common, original=False, keep_uid=False), target, overwrite)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is the same for all frames."""

    da: xr.DataArray
    template: xr.DataArray | None
    identity: dict[str, str]
    places: Places | None
    from_files: bool
    original: bool
    keep_uid: bool
    keep_private: bool | None
    nan: float | Literal["raise"]
    progress: Callable[[int, int], None] | None
    series_uid: str = field(default_factory=lambda: _new_uid())
    now: datetime = field(default_factory=lambda: datetime.now())

    @property
    def tag_dims(self) -> tuple[str, ...]:
        """Dims but slice, row and col."""
        return tuple(str(dim) for dim in self.da.dims[:-3])

    @property
    def is_untouched(self) -> bool:
        """Whether xarray knows of no change to the values since they were read."""
        return "TransferSyntaxUID" in self.da.encoding

    @property
    def drops_private(self) -> bool:
        """Whether private elements are left out."""
        return not (self.original if self.keep_private is None else self.keep_private)


@dataclass(kw_only=True)
class _Frame:
    """One frame on its way to a file."""

    da: xr.DataArray
    ds: Dataset
    told: dict[str, Value]
    """Elements that the user has set: whose attribute or coordinate is not what the header had."""
    described: bool
    """Whether the header was made from attributes and coordinates alone."""
    changes: str
    """How its geometry differs from the header's."""
    source: str
    """The file it came from, if it is an original."""


def _write(job: _Job, target: Path, overwrite: bool) -> list[Path]:
    """Write all frames, or raise and leave nothing."""
    numbers = _instance_numbers(job)
    names: list[str] = []
    uids: set[str] = set()
    with output_directory(target, overwrite=overwrite) as folder:
        for index, values in _volumes(job.da):
            there, frames = _frames(job, index)
            if not frames:
                continue
            planes = finite_values(values if there.all() else values[there], job.nan, _volume_name(index))
            found, store = _storage(job, frames, planes)
            if not any(_TIMES & frame.told.keys() for frame in frames):
                moved = set_new_times([frame.ds for frame in frames], job.da, index)
                _refuse_new_labels(job, moved)
            for frame, plane in zip(frames, planes, strict=True):
                number = numbers[len(names)]
                store(frame, plane)
                _finish(job, frame, number, index, found)
                uids.add(str(frame.ds.SOPInstanceUID))
                names.append(f"{number:05d}.dcm")
                _save(frame.ds, folder / names[-1])
                del frame.ds.PixelData  # one frame at a time is enough beside the volume
                if len(uids) < len(names):
                    raise ValueError("keep_uid=True needs frames that differ, but one is in the image more than once")
                if job.progress is not None:
                    job.progress(len(names), len(numbers))
    return [target / name for name in names]


def _canonical(da: xr.DataArray) -> xr.DataArray:
    """Return the image with the dims (tag dims..., slice, row, col)."""
    if "rgb" in da.dims:
        raise ValuesNotStorableError(
            "colour images (dim 'rgb') cannot be written as DICOM: write one of the colours, image.isel(rgb=0)"
        )
    missing = [dim for dim in ("row", "col") if dim not in da.dims]
    if missing:
        raise ValueError(
            f"an image has the dims row and col, this one has {da.dims}: keep {missing[0]} as a dim of one, "
            f"such as image.isel({missing[0]}=[0])"
        )
    if not da.size:
        raise ValueError(f"the image is empty, its sizes are {dict(da.sizes)}: select something")
    da = with_known_coords(da)
    if "slice" not in da.dims:
        da = da.expand_dims("slice")
    return da.transpose(..., "slice", "row", "col")


def _not_original(job: _Job) -> str:
    """Return why an image cannot be an original, "" if it may be one."""
    if job.template is not None:
        return "a template was given"
    if not job.is_untouched:
        return "its values were computed"
    if job.da.encoding.get("tiled"):
        return "each of its files holds many slices"
    return "" if job.from_files else "its source files are not known"


def _volumes(da: xr.DataArray) -> Iterator[tuple[dict[str, int], NDArray[Any]]]:
    """Yield numbers along the tag dims, and values (slice, row, col), of each volume.

    A dask chunk may hold several volumes: it is computed once.
    """
    tags = [str(dim) for dim in da.dims[:-3]]
    blocks = []
    for dim in tags:
        sizes = da.chunksizes.get(dim, (1,) * da.sizes[dim])
        stops = np.cumsum(sizes).tolist()
        blocks.append([slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)])
    for corner in product(*blocks):
        where = dict(zip(tags, corner, strict=True))
        block = da.isel(where).values
        for inner in np.ndindex(block.shape[:-3]):
            yield {dim: part.start + i for (dim, part), i in zip(where.items(), inner, strict=True)}, block[inner]


def _frames(job: _Job, index: dict[str, int]) -> tuple[NDArray[np.bool_], list[_Frame]]:
    """Return which slices of a volume are there, and these with their headers."""
    volume = job.da.isel(index)
    there = np.ones(volume.sizes["slice"], bool)
    if "present" in volume.coords:
        there &= volume.coords["present"].values
    return there, [_frame(job, volume.isel(slice=int(k)), index, int(k)) for k in np.flatnonzero(there)]


def _frame(job: _Job, frame: xr.DataArray, index: dict[str, int], number: int) -> _Frame:
    """Return one frame with the header it starts from, in its place."""
    template = None if job.template is None else template_frame(job.template, job.da, {**index, "slice": number})
    ds, told = first_header(frame, template, job.tag_dims, from_files=job.from_files)
    changes = set_place(ds, job.places, number, frame.shape, original=job.original, keep=job.keep_uid)
    if job.original and changes:
        raise _ChangedError(f"its geometry was changed ({changes})")
    source = str(frame.coords["source"].item()) if job.original else ""
    return _Frame(da=frame, ds=ds, told=told, described=not job.from_files, changes=changes, source=source)


def _instance_numbers(job: _Job) -> list[int]:
    """Return InstanceNumber of each frame to write: those of an original if they differ, else 1, 2, ..."""
    sizes = {dim: job.da.sizes[dim] for dim in job.da.dims[:-2]}

    def of_frames(name: str) -> NDArray[Any]:
        values: NDArray[Any] = job.da.coords[name].variable.set_dims(sizes).transpose(*sizes).values
        return values

    there = np.ones(tuple(sizes.values()), bool)
    if "present" in job.da.coords:
        there &= of_frames("present")
    count = int(there.sum())
    if not count:
        raise ValueError("none of the frames is present: there is nothing to write")
    if job.original and "InstanceNumber" in job.da.coords:
        values = of_frames("InstanceNumber")[there]
        if values.dtype.kind == "i" and len(np.unique(values)) == count and values.min() >= 0:
            return [int(value) for value in values]
    return list(range(1, count + 1))


def _volume_name(index: dict[str, int]) -> str:
    return " of volume " + ", ".join(f"{dim}={number}" for dim, number in index.items()) if index else ""


def _storage(
    job: _Job, frames: list[_Frame], planes: NDArray[Any]
) -> tuple[ValueRange | None, Callable[[_Frame, NDArray[Any]], None]]:
    """Return how the values of a volume are stored.

    Returns
    -------
    found : ValueRange or None
        Of values that are not those of the source; None if they are.
    store : callable
        Puts the values of a frame in its header, as PixelData.
    """
    rescaled = bool(job.da.encoding.get("rescaled", True))

    def as_before(frame: _Frame, plane: NDArray[Any]) -> NDArray[Any] | None:
        return stored_as_before(frame.ds, plane, rescaled=rescaled)

    def store_as_before(frame: _Frame, plane: NDArray[Any]) -> None:
        stored = as_before(frame, plane)
        if job.original:
            source = read_stored(Place(frame.source, -1, 0, 0, WHOLE), source_format(frame.ds))
            if stored is None or not np.array_equal(stored, source):
                raise _ChangedError(f"its pixel values are not those of {frame.source}")
        assert stored is not None
        frame.ds.HighBit = frame.ds.BitsStored - 1  # where the reader has shifted them to
        set_pixel_data(frame.ds, stored)

    if job.original:
        return None, store_as_before
    # A crop or flip: new places, old values.
    may_be_old = job.is_untouched and job.from_files and job.template is None
    if may_be_old and all(as_before(frame, plane) is not None for frame, plane in zip(frames, planes, strict=True)):
        return None, store_as_before
    found = value_range(planes)
    first = frames[0].ds
    rescale = choose_rescale(
        found, planes.dtype, like=rescale_before(first), intercept_is_zero=first.get("SOPClassUID") == PET
    )

    def store(frame: _Frame, plane: NDArray[Any]) -> None:
        describe_pixels(frame.ds, rescale)
        set_pixel_data(frame.ds, rescale.store(plane))

    return found, store


def _finish(job: _Job, frame: _Frame, number: int, index: dict[str, int], found: ValueRange | None) -> None:
    """Complete the header of a frame."""
    ds = frame.ds
    if job.drops_private:
        drop_private(ds)
    for name, value in job.identity.items():
        if str(ds.get(name, "")) != value:
            setattr(ds, name, value)
    if not ds.get("SOPClassUID"):
        raise MissingHeaderError(
            "the image has no SOPClassUID, which says what kind of image it is: "
            "give template=, an image of that kind, or set the attribute"
        )
    if job.keep_uid:
        if frame.told:
            # Two files with one SOPInstanceUID must not say different things.
            name = min(frame.told)
            raise ValueError(
                f"keep_uid=True keeps every element, but an attribute changes {name}: remove the attribute"
            )
        before = _public(ds)
        set_labels(ds, frame.da, job.tag_dims, described=False, add=False)
        _refuse_new_labels(job, _public(ds) != before)
    else:
        set_labels(ds, frame.da, job.tag_dims, described=frame.described, add=not job.original)
        ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.InstanceNumber = job.series_uid, _new_uid(), number
        ds.InstanceCreationDate, ds.InstanceCreationTime = f"{job.now:%Y%m%d}", f"{job.now:%H%M%S.%f}"
    if not job.original:
        _derive(job, frame, index, found)
    make_encodable(ds, header_values(frame.da) if frame.described else frame.told)


def _public(ds: Dataset) -> dict[int, Any]:
    """Return the public elements of a header, in which all labels are."""
    return {int(number): ds.get_item(number) for number in list(ds.keys()) if not number.is_private}


def _refuse_new_labels(job: _Job, changed: bool) -> None:
    """Raise where UIDs are to be kept though the labels along a tag dim are not those of the files."""
    if changed and job.keep_uid:
        raise ValueError(
            "keep_uid=True is for an unchanged original only, but labels along its tag dims were changed: "
            "write a new series without it"
        )


def _derive(job: _Job, frame: _Frame, index: dict[str, int], found: ValueRange | None) -> None:
    """Make a header that of a derived frame."""
    import imagedata_xr

    ds, told = frame.ds, frame.told
    done = ["pixel values computed"] if found is not None else []
    done += [f"geometry changed ({frame.changes})"] if frame.changes else []
    how = f"{', '.join(done) or 'written'} with imagedata_xr {imagedata_xr.__version__}"
    drop_stale_elements(ds, found, told)
    mark_derived(ds, _reference(frame.da), told, how)
    may_be_set = frame.described and job.template is None and bool(ds.get("SeriesNumber"))
    if "SeriesNumber" not in told and not may_be_set:
        ds.SeriesNumber = int(ds.get("SeriesNumber") or 0) + _DERIVED_SERIES
    if frame.described:
        set_time(ds, job.da, frame.da, index.get("time", 0), job.now)
        fill_required(ds, several=several_series(frame.da))


def _reference(frame: xr.DataArray) -> tuple[str, str] | None:
    """Return SOPClassUID and SOPInstanceUID of the frame that one was derived from, where they are known."""
    if "SOPInstanceUID" not in frame.coords or "SOPClassUID" not in frame.attrs or several_series(frame):
        return None
    return str(frame.attrs["SOPClassUID"]), str(frame.coords["SOPInstanceUID"].item())


def _new_uid() -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def _save(ds: Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file (PS3.10 7.1)."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.preamble = b"\0" * 128  # that of a source may hold a program
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    # Not written to the file by pydicom, which loses the number of an OSError.
    path.write_bytes(buffer.getbuffer())
