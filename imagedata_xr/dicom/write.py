"""An image to DICOM files, one for each frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from imagedata_xr.dicom.derive import (
    CT,
    PET,
    Places,
    drop_stale_elements,
    fill_required,
    frame_places,
    make_encodable,
    mark_derived,
    set_labels,
    set_place,
    set_time,
)
from imagedata_xr.dicom.frames import PixelFormat, read_stored
from imagedata_xr.dicom.pixels import (
    Rescale,
    ValueRange,
    choose_rescale,
    finite_values,
    stored_exactly,
    value_range,
)
from imagedata_xr.elements import Value, to_element, to_value
from imagedata_xr.errors import (
    ConflictingOriginError,
    MissingHeaderError,
    UnreadableFileError,
    ValuesNotStorableError,
)
from imagedata_xr.files import output_directory
from imagedata_xr.headers import described_dataset, header_values, overlay, source_dataset
from imagedata_xr.indexes import origins

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["write_dicom"]

Progress = Callable[[int, int], None]

_IDENTITY: Final = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
_DERIVED_SERIES: Final = 1000
"""What is added to the SeriesNumber of the source, to give that of a derived series."""

_OF_TEMPLATE: Final = frozenset(  # PS3.3 C.7.1, C.7.2, C.7.4: whose image it is, and of which examination
    "PatientName PatientID IssuerOfPatientID TypeOfPatientID PatientBirthDate PatientBirthTime PatientSex OtherPatientIDs "
    "OtherPatientNames EthnicGroup PatientComments PatientIdentityRemoved DeidentificationMethod PatientAge PatientSize "
    "PatientWeight PregnancyStatus AdditionalPatientHistory MedicalAlerts Allergies StudyInstanceUID StudyDate StudyTime "
    "StudyID StudyDescription AccessionNumber ReferringPhysicianName FrameOfReferenceUID PositionReferenceIndicator "
    "SOPClassUID Modality SpecificCharacterSet SeriesInstanceUID SOPInstanceUID InstanceNumber".split()
)


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
    progress: Progress | None = None,
) -> list[Path]:
    """Files that an image was written to, one a frame, tag dims outermost and slices innermost.

    The files are Explicit VR Little Endian and named after the InstanceNumber, ``00001.dcm`` and so on. They are a new
    series, with new UIDs, of the same patient, study and frame of reference. The directory appears when it is
    complete. Values are computed volume by volume.

    Header
        Each frame starts from the header of its source file, private elements and sequences included. Frames that name
        no file any more (such as the mean of two series, or over time) start from attributes and coordinates. What
        the user has set in attributes wins. Geometry always follows from the coordinates, b-value, echo time, flip
        angle and dims named after an element from theirs.
    Original
        An image whose stored values and geometry are those of its source files (also a selection of whole frames)
        is written with the same stored values, rescale and private elements.
    Derived
        Any other image has ImageType ``DERIVED``, a DerivationDescription, a SourceImageSequence where its frame is
        known, and the SeriesNumber of the source plus 1000, if the user has not set another (where a frame names no file, an
        inherited number cannot be told from one that was set, and stays). Private elements are dropped.
    Values
        Whole numbers are stored as they are if they span 16 bits. Other numbers are rescaled for each volume to use the
        full 16 bits: they come back to within half a RescaleSlope.

    Parameters
    ----------
    da : DataArray
        Image with the dims ``row``, ``col``, ``slice`` (or one slice) and any tag dims. It is not changed. Frames whose
        ``present`` is False are left out.
    path : path-like
        Directory to write; it must not exist, or be empty, unless ``overwrite``.
    template : DataArray, optional
        Image whose frames give the headers, and so say whose image this is; frames correspond by their number along
        each dim. A dim that it lacks, or has one of, serves for all.
    keep_uid : bool
        Keep SeriesInstanceUID and SOPInstanceUIDs, and with them every other element. Only for an unchanged original.
    overwrite : bool
        Replace a directory that holds nothing but DICOM files, and none that this image is read from.
    keep_private : bool, optional
        Whether to keep private elements. None keeps those of an original.
    nan : float or "raise"
        What to store for NaN and infinity.
    progress : callable, optional
        Called after each file with the numbers of files written, and of all.

    Raises
    ------
    ConflictingOriginError
        If the image was made of several patients, studies or frames of reference, or attributes name another.
    MissingHeaderError
        If what a valid file needs is absent.
    ValuesNotStorableError
        If values are complex, not finite, or integers of more than 16 bits.
    GeometryError
        If positions are absent or rows or columns not evenly spaced.
    FileExistsError
        If something is at ``path``.
    UnreadableFileError
        If some of the source files are gone.
    ValueError
        If ``keep_uid`` is asked for what is not an unchanged original.

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
    image = _canonical(da)
    whose = image if template is None else _canonical(template)
    _check_not_a_source(target, (image, whose), overwrite)
    common = {
        "da": image,
        "template": None if template is None else whose,
        "identity": _identity(whose, template is not None),
        "places": frame_places(image),
        "from_files": _reachable(whose),
        "keep_private": keep_private,
        "nan": nan,
        "progress": progress,
    }
    reason = "a template was given" if template is not None else _not_original(image, common["from_files"])
    if not reason:
        try:
            return _write(_Job(**common, original=True, keep_uid=keep_uid), target, overwrite)
        except _ChangedError as changed:
            reason = str(changed)
    if keep_uid:
        raise ValueError(f"keep_uid=True is for an unchanged original only, and {reason}: write without it, as a new series")
    return _write(_Job(**common, original=False, keep_uid=False), target, overwrite)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """All that is the same for all frames."""

    da: xr.DataArray
    template: xr.DataArray | None
    identity: dict[str, str]
    places: Places | None
    from_files: bool
    original: bool
    keep_uid: bool
    keep_private: bool | None
    nan: float | Literal["raise"]
    progress: Progress | None
    series_uid: str = field(default_factory=lambda: _new_uid())
    now: datetime = field(default_factory=lambda: datetime.now())  # noqa: DTZ005 - DICOM times are local

    @property
    def tag_dims(self) -> tuple[str, ...]:
        """Dims but slice, row and col."""
        return tuple(str(dim) for dim in self.da.dims[:-3])

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
    """Elements that the user has set: those whose attribute or coordinate is not what the header had."""
    described: bool
    """Whether the header was made from attributes and coordinates alone."""
    changes: str
    """What is another geometry than the header's."""
    source: str
    """The file that the header is from."""


def _write(job: _Job, target: Path, overwrite: bool) -> list[Path]:
    """Write all frames, or raise and leave nothing."""
    numbers = _instance_numbers(job)
    names: list[str] = []
    with output_directory(target, overwrite=overwrite) as folder:
        for index, values in _volumes(job.da):
            there, frames = _frames(job, index)
            if not frames:
                continue
            found = _set_pixels(job, frames, values[there], _volume_name(index))
            for frame in frames:
                number = numbers[len(names)]
                _finish(job, frame, number, index, found)
                names.append(f"{number:05d}.dcm")
                _save(frame.ds, folder / names[-1])
                if job.progress is not None:
                    job.progress(len(names), len(numbers))
    return [target / name for name in names]


def _canonical(da: xr.DataArray) -> xr.DataArray:
    """Image with the dims (tag dims..., slice, row, col)."""
    if "rgb" in da.dims:
        raise ValuesNotStorableError("colour images (dim 'rgb') cannot be written as DICOM: write one colour, isel(rgb=0)")
    missing = [dim for dim in ("row", "col") if dim not in da.dims]
    if missing:
        raise ValueError(
            f"an image has the dims row and col, this one has {da.dims}: keep {missing[0]} as a dim of one, "
            f"such as image.isel({missing[0]}=[0])"
        )
    if not da.size:
        raise ValueError(f"the image is empty, its sizes are {dict(da.sizes)}: select something")
    if "slice" not in da.dims:
        da = da.expand_dims("slice")
    return da.transpose(..., "slice", "row", "col")


def _check_not_a_source(target: Path, images: tuple[xr.DataArray, ...], overwrite: bool) -> None:
    """Raise where overwriting would take away the files that an image is still read from."""
    if not overwrite:
        return
    real = os.path.realpath(target)
    for image in images:
        if "source" in image.coords:
            folders = {Path(str(file)).parent for file in np.unique(image.coords["source"].values)}
            if any(os.path.realpath(folder) == real for folder in folders):
                raise FileExistsError(f"{target} is where the image is read from: write it to another directory")


def _identity(whose: xr.DataArray, is_template: bool) -> dict[str, str]:
    """PatientID, StudyInstanceUID and FrameOfReferenceUID (where there is one) of the image to write.

    Attributes are not evidence: `headers` and arithmetic bring them back from a third operand. Origins are.
    """
    advice = "give template=, the image whose patient, study and frame of reference the result is to have"
    # An image that knows no series at all (a mask of bare numbers) says nothing against the others.
    known = [origin for origin in origins(whose) if any(origin)]
    found = {}
    for name in _IDENTITY:
        values = sorted({getattr(origin, name) for origin in known})
        if len(values) > 1:
            raise ConflictingOriginError(f"the image was made of {len(values)} different {name}: {', '.join(values)}: {advice}")
        told = str(whose.attrs[name]) if name in whose.attrs else None
        if is_template and told is not None:
            # The way to say on purpose that an image is to be another patient's.
            values = [told]
        if values and told is not None and told != values[0]:
            raise ConflictingOriginError(
                f"the attribute {name} is {told!r}, but the image was made of {values[0]!r}: remove the attribute, or "
                "give template=, an image with the attributes that are to be written"
            )
        found[name] = values[0] if values else told or ""
    if not found["StudyInstanceUID"] or ("PatientID" not in whose.attrs and not found["PatientID"]):
        lacking = "StudyInstanceUID" if not found["StudyInstanceUID"] else "PatientID"
        raise MissingHeaderError(f"the image has no {lacking}, so nothing says whose it is: {advice}")
    return {name: value for name, value in found.items() if value or name == "PatientID"}


def _reachable(image: xr.DataArray) -> bool:
    """Whether each frame names the one file that it came from, and that is there.

    Raises
    ------
    UnreadableFileError
        If some files are there and others are not: headers of two kinds in a series would be worse than none.
    """
    named = {"source", "SOPInstanceUID"} <= {*image.coords, *image.attrs} and "source" in image.coords
    if not named or _several_series(image):
        return False
    files = np.unique(image.coords["source"].values)
    gone = [str(file) for file in files if file and not Path(str(file)).is_file()]
    if not gone:
        return True
    if len(gone) < np.count_nonzero(files != ""):
        raise UnreadableFileError(
            f"{len(gone)} of {len(files)} source files are gone, the first is {gone[0]}: put them back, or "
            "write without any, from attributes and coordinates, with image.drop_vars('source')"
        )
    warnings.warn(
        f"the source files are not there any more (the first is {gone[0]}): headers are made from attributes and "
        "coordinates, without sequences and private elements",
        stacklevel=4,
    )
    return False


def _several_series(image: xr.DataArray) -> bool:
    return len({origin.SeriesInstanceUID for origin in origins(image)}) > 1


def _not_original(image: xr.DataArray, from_files: bool) -> str:
    """Why an image cannot be an original, "" if it may be one."""
    if "TransferSyntaxUID" not in image.encoding:
        return "the values were computed"
    return "" if from_files else "its source files are not known"


def _volume_name(index: dict[str, int]) -> str:
    return " of volume " + ", ".join(f"{dim}={number}" for dim, number in index.items()) if index else ""


def _volumes(da: xr.DataArray) -> Iterator[tuple[dict[str, int], NDArray[Any]]]:
    """Number along the tag dims, and values (slice, row, col), of each volume.

    A dask chunk may hold several volumes: it is computed once.
    """
    tags = [str(dim) for dim in da.dims[:-3]]
    steps = [da.chunksizes[dim] if dim in da.chunksizes else (1,) * da.sizes[dim] for dim in tags]
    starts = [np.concatenate([[0], np.cumsum(step)[:-1]]) for step in steps]
    blocks = [list(zip(start, step, strict=True)) for start, step in zip(starts, steps, strict=True)]
    for corner in product(*blocks):
        block = da.isel({dim: slice(int(s), int(s + n)) for dim, (s, n) in zip(tags, corner, strict=True)}).values
        for inner in np.ndindex(block.shape[:-3]):
            index = {dim: int(s) + i for dim, (s, _), i in zip(tags, corner, inner, strict=True)}
            yield index, block[inner]


def _frames(job: _Job, index: dict[str, int]) -> tuple[NDArray[np.bool_], list[_Frame]]:
    """Which slices of a volume are there, and these with their headers."""
    volume = job.da.isel(index)
    there = np.ones(volume.sizes["slice"], bool)
    if "present" in volume.coords:
        there &= volume.coords["present"].values
    return there, [_frame(job, volume.isel(slice=k), index, int(k)) for k in np.flatnonzero(there)]


def _frame(job: _Job, frame: xr.DataArray, index: dict[str, int], number: int) -> _Frame:
    """One frame with the header it starts from, in its place."""
    model = frame if job.template is None else _template_frame(job, index, number)
    own = _header_part(model, job)
    ds = source_dataset(own) if job.from_files else None
    told: dict[str, Value] = {}
    if ds is None:
        ds = described_dataset(own)
    else:
        told = _told(ds, own)
        overlay(ds, own)
    if job.template is not None:
        settings = _told(ds, _header_part(frame, job))
        for name in settings.keys() - _OF_TEMPLATE:
            told[name] = settings[name]
            ds.add(to_element(name, settings[name]))
    rows, cols = frame.shape
    changes = set_place(ds, job.places, number, rows, cols, original=job.original)
    if job.original and changes:
        raise _ChangedError(f"its geometry was changed ({changes})")
    source = str(model.coords["source"].item()) if job.from_files else ""
    return _Frame(da=frame, ds=ds, told=told, described=not job.from_files, changes=changes, source=source)


def _header_part(frame: xr.DataArray, job: _Job) -> xr.DataArray:
    """Frame without the coordinates and attributes that are of the whole image, though elements have their names."""
    labels = [name for name in (*job.tag_dims, "AcquisitionDateTime") if name in frame.coords]
    part = frame.drop_vars(labels)
    part.attrs = {name: v for name, v in frame.attrs.items() if name not in ("ImageOrientationPatient", "PixelSpacing")}
    return part


def _told(ds: Dataset, frame: xr.DataArray) -> dict[str, Value]:
    """Elements that a frame's attributes and coordinates give another value than a header."""
    return {
        name: value
        for name, value in header_values(frame).items()
        if (_text(to_value(ds[name])) != _text(value) if name in ds else value != "")
    }


def _text(value: Any) -> str:
    """Value in a form in which equal ones are equal."""
    return "\\".join(str(part) for part in np.atleast_1d(np.asarray(value, dtype=object)))


def _template_frame(job: _Job, index: dict[str, int], number: int) -> xr.DataArray:
    """Frame of the template that corresponds to one of the image."""
    template = job.template
    assert template is not None
    where = {}
    for dim, wanted in {**index, "slice": number}.items():
        size, needed = template.sizes.get(dim, 1), job.da.sizes[dim]
        if size not in (1, needed):
            raise ValueError(f"the template has {size} along {dim}, the image has {needed}: select {needed} of it, or one")
        if dim in template.dims:
            where[dim] = wanted if size > 1 else 0
    rest = {dim: size for dim, size in template.sizes.items() if dim not in (*where, "row", "col")}
    if any(size > 1 for size in rest.values()):
        raise ValueError(f"the template has dims that the image lacks: {rest}: select one along each, such as with isel")
    return template.isel({**where, **dict.fromkeys(rest, 0)})


def _instance_numbers(job: _Job) -> list[int]:
    """InstanceNumber of each frame to write: those of an original where they tell its frames apart, else 1, 2, ..."""
    dims = job.da.dims[:-2]
    sizes = {dim: job.da.sizes[dim] for dim in dims}
    there = np.ones(tuple(sizes.values()), bool)
    if "present" in job.da.coords:
        there &= job.da.coords["present"].variable.set_dims(sizes).transpose(*dims).values
    count = int(there.sum())
    if not count:
        raise ValueError("none of the frames is present: there is nothing to write")
    if job.original and "InstanceNumber" in job.da.coords:
        values = job.da.coords["InstanceNumber"].variable.set_dims(sizes).transpose(*dims).values[there]
        if values.dtype.kind == "i" and len(np.unique(values)) == count and values.min() >= 0:
            return [int(value) for value in values]
    return list(range(1, count + 1))


def _set_pixels(job: _Job, frames: list[_Frame], values: NDArray[Any], name: str) -> ValueRange | None:
    """Put the pixel data of a volume in its frames; the range of the values, if these are not those of the source."""
    if job.original:
        for frame, plane in zip(frames, values, strict=True):
            form = _pixel_format(frame.ds)
            stored = read_stored(frame.source, -1, 0, form)
            if not np.array_equal(_stored_as_before(job, frame, plane), stored):
                raise _ChangedError(f"its pixel values are not those of {frame.source}")
            frame.ds.HighBit = form.bits_stored - 1  # stray bits above are gone
            _set_pixel_data(frame.ds, stored)
        return None
    values = finite_values(values, job.nan, name)
    if "TransferSyntaxUID" in job.da.encoding and job.template is None and job.from_files:
        before = [_stored_as_before(job, frame, plane) for frame, plane in zip(frames, values, strict=True)]
        if all(stored is not None for stored in before):
            for frame, stored in zip(frames, before, strict=True):
                _set_pixel_data(frame.ds, stored)
            return None
    found = value_range(values)
    first = frames[0].ds
    rescale = choose_rescale(
        found, values.dtype, like=_rescale_before(first), intercept_is_zero=first.get("SOPClassUID") == PET
    )
    for frame, plane in zip(frames, values, strict=True):
        _describe_pixels(frame.ds, rescale)
        _set_pixel_data(frame.ds, rescale.store(plane))
    return found


def _pixel_format(ds: Dataset) -> PixelFormat:
    """How the pixels of a source file are stored."""
    bits = int(ds.BitsAllocated)
    return PixelFormat(
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        samples=int(ds.get("SamplesPerPixel", 1)),
        bits_allocated=bits,
        bits_stored=int(ds.get("BitsStored", bits)),
        high_bit=int(ds.get("HighBit", ds.get("BitsStored", bits) - 1)),
        signed=bool(ds.get("PixelRepresentation", 0)),
        photometric=str(ds.get("PhotometricInterpretation", "")),
    )


def _numbers_of_rescale(ds: Dataset) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept that a header tells."""
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    return (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))


def _stored_as_before(job: _Job, frame: _Frame, plane: NDArray[Any]) -> NDArray[Any] | None:
    """Stored values of a frame by the rescale of its source; None if they cannot be from there."""
    form = _pixel_format(frame.ds)
    slope, intercept = _numbers_of_rescale(frame.ds) if job.da.encoding.get("rescaled", True) else (1.0, 0.0)
    return stored_exactly(plane, slope, intercept, form.dtype, form.bits_stored)


def _rescale_before(ds: Dataset) -> Rescale | None:
    """Rescale that a source used, if it could serve again."""
    slope, intercept = _numbers_of_rescale(ds)
    if ds.get("BitsAllocated") != 16 or slope != 1 or not intercept.is_integer():
        return None
    return Rescale("1", str(int(intercept)), "i2" if ds.get("PixelRepresentation") else "u2")


def _describe_pixels(ds: Dataset, rescale: Rescale) -> None:
    """Put in a header how new values are stored (PS3.3 C.7.6.3, C.11.1)."""
    ds.SamplesPerPixel = 1
    if ds.get("PhotometricInterpretation") != "MONOCHROME1":
        ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(rescale.dtype == "i2")
    has_rescale = ds.get("SOPClassUID") in (CT, PET)
    if has_rescale or "RescaleSlope" in ds or not rescale.is_identity:
        ds.RescaleSlope, ds.RescaleIntercept = rescale.slope, rescale.intercept
        if not has_rescale and not ds.get("RescaleType"):
            ds.RescaleType = "US"  # unspecified


def _set_pixel_data(ds: Dataset, stored: NDArray[Any]) -> None:
    data = stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes()
    ds.add_new("PixelData", "OB" if stored.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))


def _finish(job: _Job, frame: _Frame, number: int, index: dict[str, int], found: ValueRange | None) -> None:
    """Complete the header of a frame."""
    ds = frame.ds
    if job.drops_private:
        ds.remove_private_tags()
    for name, value in job.identity.items():
        if str(ds.get(name, "")) != value:
            setattr(ds, name, value)
    if job.keep_uid:
        changed = sorted(frame.told.keys() & {"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"})
        if changed:
            raise ValueError(f"keep_uid=True keeps {changed[0]}, which the attributes change: remove it from them")
    else:
        set_labels(ds, frame.da, job.tag_dims, described=frame.described, add=not job.original)
        ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.InstanceNumber = job.series_uid, _new_uid(), number
        ds.InstanceCreationDate, ds.InstanceCreationTime = f"{job.now:%Y%m%d}", f"{job.now:%H%M%S.%f}"
    if not job.original:
        _derive(job, frame, index, found)
    if not ds.get("SOPClassUID"):
        raise MissingHeaderError(
            "the image has no SOPClassUID, which says what kind of image it is: "
            "give template=, an image of that kind, or set the attribute"
        )
    make_encodable(ds, header_values(frame.da) if frame.described else frame.told)


def _derive(job: _Job, frame: _Frame, index: dict[str, int], found: ValueRange | None) -> None:
    """Make a header that of a derived frame."""
    import imagedata_xr

    ds, told = frame.ds, frame.told
    done = ["pixel values computed"] if found is not None else []
    done += [f"geometry changed: {frame.changes}"] if frame.changes else []
    by = f"imagedata_xr {imagedata_xr.__version__}"
    drop_stale_elements(ds, found, told)
    mark_derived(ds, _reference(frame.da), told, f"{', '.join(done) or 'written'} with {by}")
    if "SeriesNumber" not in told and (not frame.described or job.template is not None or not ds.get("SeriesNumber")):
        ds.SeriesNumber = int(ds.get("SeriesNumber") or 0) + _DERIVED_SERIES
    if frame.described:
        set_time(ds, job.da, frame.da, index.get("time", 0), job.now)
        fill_required(ds, several=_several_series(frame.da))


def _reference(frame: xr.DataArray) -> tuple[str, str] | None:
    """SOPClassUID and SOPInstanceUID of the one frame that a frame was derived from, where they are known."""
    if "SOPInstanceUID" not in frame.coords or "SOPClassUID" not in frame.attrs or _several_series(frame):
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
    ds.file_meta = meta  # type: ignore[attr-defined] # any Dataset takes one
    ds.preamble = b"\0" * 128  # type: ignore[attr-defined] # likewise; a source's may hold a program
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    # Not written to the file by pydicom, which loses the number of an OSError.
    path.write_bytes(buffer.getbuffer())
