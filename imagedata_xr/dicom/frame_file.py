"""One frame of an image to one DICOM file, element by element."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from imagedata_xr.dicom.basis import first_header, template_frame
from imagedata_xr.dicom.classic import is_of_one_image
from imagedata_xr.dicom.derive import (
    drop_private,
    drop_stale_elements,
    fill_required,
    make_encodable,
    mark_derived,
    mark_lossy,
    move_overlays,
)
from imagedata_xr.dicom.emission import number_in_series, orient_patient
from imagedata_xr.dicom.gradients import correct_private, set_direction
from imagedata_xr.dicom.identity import derived_number, several_series
from imagedata_xr.dicom.job import TIMES, ChangedError, Job, what_was_done
from imagedata_xr.dicom.label_elements import LABELS, SAME_LABEL, label_element, set_labels
from imagedata_xr.dicom.labels import move_dates, new_times, put_times, set_time
from imagedata_xr.dicom.moments import UNCHANGED
from imagedata_xr.dicom.pixels import (
    Rescale,
    SourcePixels,
    set_pixel_data,
)
from imagedata_xr.dicom.places import SourceGrid, set_place
from imagedata_xr.dicom.storage import GREY, Source, Storage, choose_storage
from imagedata_xr.dicom.stored import WHOLE, Place, read_stored
from imagedata_xr.elements import to_value
from imagedata_xr.errors import MissingHeaderError, ValuesNotStorableError
from imagedata_xr.headers import header_values
from imagedata_xr.names import PET
from imagedata_xr.origins import origins
from imagedata_xr.verbatim import keep_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.dicom.moments import NewTimes
    from imagedata_xr.dicom.pixels import ValueRange
    from imagedata_xr.elements import Value

__all__ = [
    "Frame",
    "make_frame",
    "set_frame_times",
    "set_volume_times",
    "storage_of",
    "whole_file",
]


@dataclass(kw_only=True)
class Frame:
    """One frame on its way to a file."""

    da: xr.DataArray
    number: int
    """Of its slice."""
    ds: Dataset
    told: dict[str, Value]
    """Elements that the user has set: whose attribute or coordinate is not what the header had."""
    described: bool
    """Whether the header was made from attributes and coordinates alone."""
    changes: str
    """How its geometry differs from the header's."""
    is_turned: bool
    """Whether its rows or columns lead elsewhere than the header's."""
    source: str
    """The file it came from, if that is known."""
    grid: SourceGrid
    """Where the header's pixels are."""

    @property
    def place(self) -> Place:
        """Where its stored values lie: in that file, where pydicom finds them."""
        return Place(self.source, -1, 0, 0, WHOLE)


def make_frame(job: Job, index: dict[str, int], number: int) -> Frame:
    """Return one frame with the header it starts from, in its place.

    Raises
    ------
    ChangedError
        If it is to be an original, and has another geometry than its file.
    """
    frame = job.da.isel({**index, "slice": number})
    template = None if job.template is None else template_frame(job.template, job.da, {**index, "slice": number})
    ds, told = first_header(frame, template, job.tag_dims, from_files=job.from_files)
    orientation = ds.get("ImageOrientationPatient")
    grid = SourceGrid.of(lambda name: to_value(ds[name]) if name in ds else None)
    changes = set_place(ds, job.places, number, frame.shape[:2], original=job.original, keep=job.keep_uid)
    if job.original and changes:
        raise ChangedError(f"its geometry was changed ({changes})")
    source = str(frame.coords["source"].item()) if job.original or job.is_old else ""
    return Frame(
        da=frame,
        number=number,
        ds=ds,
        told=told,
        described=not job.from_files,
        changes=changes,
        is_turned=bool(orientation) and orientation != ds.ImageOrientationPatient,
        source=source,
        grid=grid,
    )


def storage_of(
    job: Job,
    frames: Mapping[int, Frame],
    load: Callable[[], NDArray[Any]],
    as_read: Callable[[NDArray[Any], bool], Sequence[Rescale] | None],
) -> list[Storage]:
    """Return how values are stored of a volume whose frames are made, by the numbers of their slices."""

    def sources() -> list[Source]:
        return [Source(frame.place, frame.grid, k) for k, frame in frames.items()]

    return choose_storage(job, [SourcePixels.of(frame.ds) for frame in frames.values()], load, sources, as_read)


def set_volume_times(job: Job, frames: Sequence[Frame], index: dict[str, int]) -> None:
    """Put new labels of a volume along time in its headers."""
    times, headers = job.times, [frame.ds for frame in frames]
    told = {name for frame in frames for name in frame.told if not times.repeats or times.vary(name)}
    # With a template nothing says whether times were set or come from the image's own files: labels are what is told.
    # A date alone is of all volumes.
    is_set = job.template is None and TIMES & told - {"AcquisitionDate"}
    is_dated = "AcquisitionDate" in told and not times.vary("AcquisitionDate")
    new = UNCHANGED if is_set else new_times(headers, times, index, is_dated=is_dated)
    _refuse_new_labels(job, new != UNCHANGED or times.are_of_writing)
    for frame in frames:
        date = frame.told["AcquisitionDate"] if new != UNCHANGED and is_dated and job.template is None else None
        set_frame_times(job, frame.ds, new, index, date)


def set_frame_times(job: Job, ds: Dataset, new: NewTimes, index: dict[str, int], date: Value | None = None) -> None:
    """Put new labels of a volume along time in the header of one of its frames, on the date that a user has set."""
    times = job.times
    put_times(ds, times, new)
    if date is not None:
        ds.AcquisitionDate = date
    if not job.keep_uid:
        move_dates(ds, times)
    if times.are_of_writing:
        set_time(ds, times, index, job.now)


def whole_file(
    job: Job, frame: Frame, storage: Storage, plane: NDArray[Any], number: int, index: dict[str, int], uid: str
) -> tuple[str, bytes]:
    """Return SOPInstanceUID and the file of a frame, whose header is changed.

    Parameters
    ----------
    job, frame, storage : Job, Frame, Storage
        What to write.
    plane : ndarray, shape (row, col) or (row, col, rgb)
        Values of the frame.
    number : int
        InstanceNumber.
    index : dict
        Number of the volume along each tag dim.
    uid : str
        New SOPInstanceUID.
    """
    pixels = SourcePixels.of(frame.ds)
    stored = storage.values(pixels, plane, frame.place)
    if job.original:
        bits = pixels.form.bits_allocated
        whole = replace(pixels.form, bits_stored=bits, high_bit=bits - 1, signed=False)
        move_overlays(frame.ds, lambda: read_stored(frame.place, whole))
    _check_polarity(job, frame.ds)
    storage.describe(frame.ds)
    _finish(job, frame, number, index, storage.found, uid)
    set_pixel_data(frame.ds, stored)
    return str(frame.ds.SOPInstanceUID), _encoded(frame.ds)


def _check_polarity(job: Job, ds: Dataset) -> None:
    """Raise ValuesNotStorableError where the lowest value is white in some of the source files, and black in others."""
    job.polarities.add(str(ds.get("PhotometricInterpretation")))
    if job.polarities >= GREY:
        raise ValuesNotStorableError(
            "0 is white in some of the source files (MONOCHROME1) and black in others (MONOCHROME2), and an image is "
            "one of them: write those of each by themselves"
        )


def _finish(job: Job, frame: Frame, number: int, index: dict[str, int], found: ValueRange | None, uid: str) -> None:
    """Complete the header of a frame."""
    ds = frame.ds
    if job.drops_private:
        drop_private(ds)
    elif job.has_new_diffusion or frame.is_turned:
        correct_private(ds, frame.da, is_new=job.has_new_diffusion)
    for name, value in job.identity.items():
        if name not in ds or str(ds[name].value or "") != value:
            setattr(ds, name, value)  # also an empty one, which has to be there (type 2)
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
        before = _label_values(ds, frame.da, job.tag_dims)
        set_labels(ds, frame.da, job.tag_dims, described=False, add=False)
        _refuse_new_labels(job, job.has_new_diffusion or _label_values(ds, frame.da, job.tag_dims) != before)
    else:
        add, new_diffusion = not job.original, job.original and job.has_new_diffusion
        set_labels(ds, frame.da, job.tag_dims, described=frame.described, add=add, new_diffusion=new_diffusion)
        if add or new_diffusion:
            set_direction(ds, frame.da)
        ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.InstanceNumber = job.series_uid, uid, number
        ds.InstanceCreationDate, ds.InstanceCreationTime = f"{job.now:%Y%m%d}", f"{job.now:%H%M%S.%f}"
    if "PatientPosition" in frame.told and "PatientOrientationCodeSequence" in ds:
        orient_patient(ds, is_set=True)
    if not job.original:
        _derive(job, frame, index, found)
    mark_lossy(ds, job.syntaxes(ds))
    make_encodable(ds, header_values(frame.da) if frame.described else frame.told)


def _label_values(ds: Dataset, frame: xr.DataArray, tag_dims: Iterable[str]) -> list[Any]:
    """Return what a header has in the elements that can hold labels."""
    names = [label_element(frame.coords[dim])[0] for dim in tag_dims if dim in frame.coords]
    names += [*SAME_LABEL.values(), *(name for name, _ in LABELS.values())]
    return [ds[name].value if name and name in ds else None for name in names]


def _refuse_new_labels(job: Job, changed: bool) -> None:
    """Raise where UIDs are to be kept though the labels along a tag dim are not those of the files."""
    if changed and job.keep_uid:
        raise ValueError(
            "keep_uid=True is for an unchanged original only, but labels along its tag dims were changed: "
            "write a new series without it"
        )


def _derive(job: Job, frame: Frame, index: dict[str, int], found: ValueRange | None) -> None:
    """Make a header that of a derived frame."""
    import imagedata_xr

    ds, told = frame.ds, frame.told
    done = what_was_done(job, frame.da, found)
    done += [f"geometry changed ({frame.changes})"] if frame.changes else []
    how = f"{', '.join(done) or 'written'} with imagedata_xr {imagedata_xr.__version__}"
    known = job.da if job.template is None else job.template
    is_mask, is_computed = job.da.dtype == bool, not job.is_untouched
    drop_stale_elements(ds, found, told, known, is_mask=is_mask, is_computed=is_computed)
    mark_derived(ds, _source_reference(job, frame.da), told, how)
    may_be_set = frame.described and job.template is None and bool(ds.get("SeriesNumber"))
    if "SeriesNumber" not in told and not may_be_set:
        ds.SeriesNumber = derived_number(int(ds.get("SeriesNumber") or 0))
    if frame.described:
        set_time(ds, job.times, index, job.now)
        kind = known.attrs.get("SOPClassUID", "")
        fill_required(ds, several=several_series(frame.da), is_of_many=not is_of_one_image(kind))
    if ds.get("SOPClassUID") == PET and "ImageIndex" not in told:
        number_in_series(ds, job.size, job.place(index, frame.number))


def _source_reference(job: Job, frame: xr.DataArray) -> tuple[str, str] | None:
    """Return SOPClassUID and SOPInstanceUID of the frame that one was derived from, where they are known.

    Where a template makes the image another patient's, none: it would tell whose it was.
    """
    if job.template is not None and {origin.PatientID for origin in origins(frame)} - {job.identity["PatientID"]}:
        return None
    if "SOPInstanceUID" not in frame.coords or "SOPClassUID" not in frame.attrs or several_series(frame):
        return None
    uid = str(frame.coords["SOPInstanceUID"].item())
    return (str(frame.attrs["SOPClassUID"]), uid) if uid else None


def _encoded(ds: Dataset) -> bytes:
    """Return a header with pixels as a DICOM file (PS3.10 7.1)."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.preamble = b"\0" * 128  # that of a source may hold a program
    keep_values(ds, anew=ds.original_encoding != (False, True))
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()
