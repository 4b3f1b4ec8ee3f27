"""How the values of the frames of a volume are stored: as in their files, or with a rescale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imagedata_xr.dicom.extremes import warn_of_extremes
from imagedata_xr.dicom.job import ChangedError, Job
from imagedata_xr.dicom.pixels import (
    Rescale,
    SourcePixels,
    choose_rescale,
    describe_colours,
    describe_pixels,
    value_range,
)
from imagedata_xr.dicom.places import SourceGrid
from imagedata_xr.dicom.scan import scan
from imagedata_xr.dicom.stored import Place, Reader, Tile, read_stored
from imagedata_xr.errors import ValuesNotStorableError
from imagedata_xr.names import PET, RT_DOSE
from imagedata_xr.window import polarity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.dicom.pixels import ValueRange
    from imagedata_xr.dicom.stored import PixelFormat

__all__ = ["GREY", "Source", "Storage", "choose_storage"]

GREY: Final = {"MONOCHROME1", "MONOCHROME2"}
"""PhotometricInterpretation of grey levels."""


class Source(NamedTuple):
    """Where the values of the source of a frame are."""

    place: Place
    grid: SourceGrid
    number: int
    """Number of the slice in the image."""


@dataclass(frozen=True)
class Storage:
    """How the values of a frame are stored."""

    job: Job
    rescale: Rescale | None
    """None where it is that of the source, and for colours."""
    found: ValueRange | None
    """Of the values of its volume that are not those of the source; None if they are."""

    @property
    def has_new_colours(self) -> bool:
        """Whether values are colours that are not those of the source."""
        return self.job.is_colour and self.found is not None

    def values(self, pixels: SourcePixels, plane: NDArray[Any], source: Place) -> NDArray[Any]:
        """Return the stored values of a frame.

        Parameters
        ----------
        pixels : SourcePixels
            How those of its source are stored.
        plane : ndarray, shape (row, col) or (row, col, rgb)
            Its values.
        source : Place
            Where its stored values lie, if it is an original.

        Raises
        ------
        ChangedError
            If it is to be an original, and other values lie there.
        """
        if self.rescale is not None:
            return self.rescale.store(plane)
        if self.has_new_colours:
            return plane
        stored = pixels.stored(plane, rescaled=self.job.is_rescaled)
        if self.job.original and (stored is None or not np.array_equal(stored, read_stored(source, pixels.form))):
            raise ChangedError(f"its pixel values are not those of {source.path}")
        assert stored is not None
        return stored

    def describe(self, ds: Dataset) -> None:
        """Put in a header how values are stored."""
        told = polarity(self.job.da)
        if self.rescale is not None:
            describe_pixels(ds, self.rescale)
            _set_polarity(ds, told)
        elif self.has_new_colours:
            describe_colours(ds, self.job.da.dtype.itemsize * 8)
        else:
            ds.HighBit = ds.BitsStored - 1  # where the reader has shifted them to
            if self.job.is_colour:
                ds.PlanarConfiguration = 0
            elif {told, ds.get("PhotometricInterpretation")} <= GREY:
                _set_polarity(ds, told)


def _set_polarity(ds: Dataset, told: str | None) -> None:
    """Put in a header whether the lowest value of grey levels is white; None where only the header tells it."""
    before = ds.get("PhotometricInterpretation")
    ds.PhotometricInterpretation = "MONOCHROME1" if (told or before) == "MONOCHROME1" else "MONOCHROME2"
    if before != ds.PhotometricInterpretation and "PresentationLUTShape" in ds:  # says the same (PS3.3 C.8.11.3)
        ds.PresentationLUTShape = "INVERSE" if ds.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"


def choose_storage(
    job: Job,
    pixels: Sequence[SourcePixels],
    load: Callable[[], NDArray[Any]],
    sources: Callable[[], Sequence[Source]],
    as_read: Callable[[NDArray[Any], bool], Sequence[Rescale] | None],
) -> list[Storage]:
    """Return how the values of the frames of a volume are stored.

    Parameters
    ----------
    job : Job
        What to write.
    pixels : sequence of SourcePixels
        How the values of the source of each frame are stored.
    load : callable
        Returns the values of the frames.
    sources : callable
        Returns where those of the sources are.
    as_read : callable
        Returns the rescales that values were read with, if it knows them: see `imagedata_xr.dicom.rescales`.

    Raises
    ------
    ChangedError
        If values are to be those of the sources, and are not.
    ValuesNotStorableError
        If doses are below 0 that are no difference.
    """
    count = len(pixels)
    if job.original:
        return [Storage(job, None, None)] * count
    planes = load()
    if job.is_colour:
        return [Storage(job, None, value_range(planes))] * count
    if job.is_old:
        _check_old(job, pixels, planes, sources)
        return [Storage(job, None, None)] * count
    found = value_range(planes)
    first = pixels[0]
    if job.are_bytes:
        return [Storage(job, Rescale("1", "0", "u1"), found)] * count
    if first.sop_class == RT_DOSE:
        _check_dose(job, found)
    only_slope = first.sop_class in (PET, RT_DOSE)
    kind = planes.dtype
    if first.sop_class == RT_DOSE and kind.kind == "i" and job.da.attrs.get("DoseType") != "ERROR":
        kind = np.dtype(np.uint16)  # others than differences may not have signed pixels
    each = as_read(planes, only_slope)
    if each is not None:
        return [Storage(job, rescale, found._replace(whole=True)) for rescale in each]
    signed = only_slope and job.is_signed
    rescale = choose_rescale(found, kind, like=first.rescale(), intercept_is_zero=only_slope, signed=signed)
    if planes.dtype.kind == "f" and not found.whole:
        warn_of_extremes(planes, found, float(rescale.slope))
    return [Storage(job, rescale, found)] * count


def _check_dose(job: Job, found: ValueRange) -> None:
    """Raise ValuesNotStorableError for doses below 0, which only differences have."""
    if found.low < 0 and job.da.attrs.get("DoseType") != "ERROR":
        raise ValuesNotStorableError(
            f"doses of {found.low:g} to {found.high:g} are not stored: only a difference of doses may be below 0 "
            "(PS3.3 C.8.8.3). Write image.assign_attrs(DoseType='ERROR') if it is one, or image.clip(0)"
        )


def _check_old(
    job: Job, pixels: Sequence[SourcePixels], planes: NDArray[Any], sources: Callable[[], Sequence[Source]]
) -> None:
    """Raise ChangedError if values are not those of the source at the places that they have."""
    stored = []
    for one, plane in zip(pixels, planes, strict=True):
        values = one.stored(plane, rescaled=job.is_rescaled)
        if values is None:
            raise ChangedError("its values are none that its files can store")
        stored.append(values)
    if job.is_unread:
        return
    reader = Reader()
    for values, one, source in zip(stored, pixels, sources(), strict=True):
        some = _tiles(source) if job.da.encoding.get("tiled") else [source]
        if not any(_is_part(values, each, job, reader, one.form) for each in some):
            raise ChangedError(f"its pixel values are not those of {source.place.path}")


def _is_part(values: NDArray[Any], source: Source, job: Job, reader: Reader, form: PixelFormat) -> bool:
    """Return whether stored values are those of a source at the places that they have."""
    which = source.grid.pixels(job.places, source.number, values.shape)
    if which is None:
        return False
    rows, columns = source.grid.shape
    plane = reader.read(source.place, replace(form, rows=rows, columns=columns))
    return np.array_equal(values, plane[np.ix_(*which)])


def _tiles(source: Source) -> Iterator[Source]:
    """Yield all slices of a mosaic, whose header does not tell where they are."""
    path = source.place.path
    [table] = scan([path]).values()
    for row, tile in enumerate(table.tiles.tolist()):
        where = int(table.offsets[row]), int(table.lengths[row]), int(table.frames[row])
        yield Source(Place(path, *where, Tile(*tile)), SourceGrid.of(table.take([row]).value), source.number)
