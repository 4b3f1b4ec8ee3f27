"""The frames of an image to files: patched where that gives the same bytes, else element by element."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imagedata_xr.dicom.agreement import FrameColumns
from imagedata_xr.dicom.basis import as_text
from imagedata_xr.dicom.derive import drop_private, mark_derived, window_fits
from imagedata_xr.dicom.emission import image_index
from imagedata_xr.dicom.frame_file import (
    make_frame,
    set_frame_times,
    set_volume_times,
    storage_of,
    whole_file,
)
from imagedata_xr.dicom.identity import several_series
from imagedata_xr.dicom.job import Job, new_uids
from imagedata_xr.dicom.label_elements import GRADIENT, LABELS
from imagedata_xr.dicom.parts import LyingPixels, RescaledPixels
from imagedata_xr.dicom.patch import (
    FRAME_REFERENCE,
    Answers,
    HeadForm,
    NotAlikeError,
    Pattern,
    elements,
    encode,
    own_elements,
    text_elements,
)
from imagedata_xr.dicom.pixels import pixel_bytes
from imagedata_xr.dicom.rescales import SourceRescales
from imagedata_xr.dicom.source_heads import SourceHeads, Sources, grid_of
from imagedata_xr.dicom.storage import Source, Storage, choose_storage
from imagedata_xr.dicom.stored import Place, is_of_one
from imagedata_xr.elements import tag
from imagedata_xr.names import PET, RT_DOSE
from imagedata_xr.verbatim import keep_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.save import Parts

    Load = Callable[[], NDArray[Any]]

__all__ = ["Patcher"]

_FEW: Final = 6
"""Frames of an image for which it is not worth to look what they have in common."""
_IMAGE_INDEX: Final = tag("ImageIndex")
_PIXEL_DATA: Final = tag("PixelData")
_SLOPE, _INTERCEPT = tag("RescaleSlope"), tag("RescaleIntercept")


class _Volume(NamedTuple):
    """The frames of a volume that are to be written."""

    where: dict[str, int]
    """Its number along each tag dim."""
    numbers: dict[int, int]
    """Of each slice its InstanceNumber."""
    uids: list[str]
    """New SOPInstanceUIDs."""
    sources: Sources
    storages: list[Storage]
    own: dict[int, list[bytes]]
    """Elements that are put in the file of each frame: tag to all bytes, frame by frame."""


class Patcher:
    """Makes the files of the frames of an image, volume by volume."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._patterns: dict[object, Pattern | None] = {}
        self._checked: set[object] = set()
        self._remember = Answers[Any]().of
        self._columns = columns = FrameColumns(job.da)
        self._rescales = SourceRescales(job)
        names = {*job.tag_dims, *LABELS, *GRADIENT} - {"time"}
        labels = [map(str, columns.of(name)) for name in sorted(names) if name in job.da.coords]
        self._labels = list(zip(*labels, strict=True)) if labels else [()] * columns.count
        self._sources = SourceHeads(job, columns) if self._may_patch() else None

    def files(
        self, index: dict[str, int], numbers: Mapping[int, int], load: Load, lying: Sequence[Place | None]
    ) -> Iterator[tuple[str, Parts]]:
        """Yield SOPInstanceUID and file of each frame of a volume.

        Parameters
        ----------
        index : dict
            Number of the volume along each tag dim.
        numbers : mapping
            Number of each slice to its InstanceNumber.
        load : callable
            Returns the values of these slices, shape (slice, row, col).
        lying : sequence of Place or None
            Where these values lie that were not read yet; None for those that may be others.

        Raises
        ------
        ChangedError
            If values or geometry of an original are not those of its files.
        """
        sources = None if self._sources is None else self._sources.of_volume(index, numbers)
        if sources is None:
            yield from self._whole(index, numbers, load)
            return
        pixels, places = [kind.pixels for kind in sources.kinds], [head.place for head in sources.heads]
        storages = choose_storage(
            self._job,
            pixels,
            load,
            lambda: [Source(head.place, grid_of(head), k) for head, k in zip(sources.heads, numbers, strict=True)],
            partial(self._rescales.of, index, [*numbers]),
        )
        uids = new_uids(len(places))
        own = self._own(index, numbers, uids, storages, is_pet=pixels[0].sop_class == PET)
        volume = _Volume(index, dict(numbers), uids, sources, storages, own)
        keys = self._keys(volume)
        rows_of: dict[object, list[int]] = {}
        for row, key in enumerate(keys):
            rows_of.setdefault(key, []).append(row)
        heads: dict[int, bytes] = {}
        for known in rows_of.keys() & self._checked:
            heads |= self._patched(volume, rows_of[known], known)
        lies = self._lie(sources, lying)
        for row, key in enumerate(keys):
            if row not in heads:
                yield uids[row], (self._learnt(volume, row, load()[row], key),)
                if key in self._checked:
                    heads |= self._patched(volume, [other for other in rows_of[key] if other > row], key)
            elif lies[row]:
                yield uids[row], (heads[row], LyingPixels(places[row], pixels[row].form))
            elif (rescale := storages[row].rescale) is not None:
                yield uids[row], (heads[row], RescaledPixels(load()[row], rescale))
            else:
                values = storages[row].values(pixels[row], load()[row], places[row])
                yield uids[row], (heads[row], pixel_bytes(values))

    def _own(
        self,
        index: dict[str, int],
        numbers: Mapping[int, int],
        uids: list[str],
        storages: list[Storage],
        *,
        is_pet: bool,
    ) -> dict[int, list[bytes]]:
        """Return the elements that are put in the file of each frame of a volume, but for those that tell times."""
        job = self._job
        own = own_elements(uids, numbers.values())
        rescales = [storage.rescale for storage in storages if storage.rescale is not None]
        if rescales:
            own[_SLOPE] = text_elements(_SLOPE, b"DS", [rescale.slope for rescale in rescales])
            own[_INTERCEPT] = text_elements(_INTERCEPT, b"DS", [rescale.intercept for rescale in rescales])
        told = [image_index(job.size, job.place(index, k)) for k in numbers] if is_pet and not job.original else []
        values = [number.to_bytes(2, "little") for number in told if number is not None]
        if values:
            own[_IMAGE_INDEX] = elements(b"\x54\0\x30\x13US", values)
        has_source = "SOPClassUID" in job.da.attrs and "SOPInstanceUID" in job.da.coords
        if not job.original and has_source and not several_series(job.da):
            before, first = self._columns.of("SOPInstanceUID"), self._columns.first(index)
            own[FRAME_REFERENCE] = [self._reference(str(before[first + k])) for k in numbers]
        return own

    def _whole(self, index: dict[str, int], numbers: Mapping[int, int], load: Load) -> Iterator[tuple[str, Parts]]:
        """Yield the files of a volume, each written element by element."""
        job = self._job
        frames = {k: make_frame(job, index, k) for k in numbers}
        storages = storage_of(job, frames, load, partial(self._rescales.of, index, [*numbers]))
        set_volume_times(job, list(frames.values()), index)
        uids = new_uids(len(frames))
        for (k, frame), plane, storage, new_uid in zip(frames.items(), load(), storages, uids, strict=True):
            uid, file = whole_file(job, frame, storage, plane, numbers[k], index, new_uid)
            yield uid, (file,)
            del frame.ds.PixelData  # one frame at a time is enough beside the volume

    def _lie(self, sources: Sources, lying: Sequence[Place | None]) -> list[bool]:
        """Return of which frames is known that their values lie in the sources as they are to be written."""
        return [
            place is not None
            and place == head.place
            and place.offset >= 0
            and kind.can_be_copied
            and is_of_one(place.length, kind.pixels.form.size)
            and head.form.pixel_tag == _PIXEL_DATA
            for place, head, kind in zip(lying, sources.heads, sources.kinds, strict=True)
        ]

    def _patched(self, volume: _Volume, rows: list[int], key: object) -> dict[int, bytes]:
        """Return the files of frames of one key, but for their pixels."""
        pattern, (heads, kinds, times) = self._patterns[key], volume.sources
        if pattern is None or not rows:
            return {}
        own = {number: [column[row] for row in rows] for number, column in volume.own.items()}
        for number in times[rows[0]].elements:
            own[number] = [times[row].elements[number] for row in rows]
        made = pattern.heads([heads[row] for row in rows], [kinds[row].fixed for row in rows], own)
        return dict(zip(rows, made, strict=True))

    def _learnt(self, volume: _Volume, row: int, plane: NDArray[Any], key: object) -> bytes:
        """Return the file of a frame, written element by element; its pattern is made, or compared with it."""
        sources, storage, index = volume.sources, volume.storages[row], volume.where
        head, kind, times = sources.heads[row], sources.kinds[row], sources.times[row]
        k, number = list(volume.numbers.items())[row]
        patched = b""
        if self._patterns.get(key) is not None:
            pixels = pixel_bytes(storage.values(kind.pixels, plane, head.place))
            patched = b"".join((*self._patched(volume, [row], key).values(), pixels))
        frame = make_frame(self._job, index, k)
        set_frame_times(self._job, frame.ds, times.new, index)
        _, file = whole_file(self._job, frame, storage, plane, number, index, volume.uids[row])
        if key not in self._patterns:
            self._patterns[key] = None
            # Text in another character set changes every text of the header.
            if all(as_text(value).isascii() for value in frame.told.values()):
                own = volume.own.keys() | times.elements.keys()
                with suppress(NotAlikeError):
                    self._patterns[key] = Pattern(file, head, kind.fixed, own, self._anew)
        elif patched == file:
            self._checked.add(key)
        else:
            self._patterns[key] = None
        return file

    def _keys(self, volume: _Volume) -> list[tuple[object, ...]]:
        """Return what tells the file of each frame from others, but for what is put in it."""
        found, rescales = volume.storages[0].found, [storage.rescale for storage in volume.storages]
        stored = [
            None if rescale is None or found is None else (rescale.dtype, rescale.is_identity, found.whole)
            for rescale in rescales
        ]
        first = self._columns.first(volume.where)
        _, kinds, times = volume.sources
        windows = {id(kind.window): kind.window for kind in kinds}
        fit = {key: None if found is None else window_fits(window, found) for key, window in windows.items()}
        return [
            (kind.number, tuple(time.elements), self._labels[first + k], fit[id(kind.window)], how)
            for k, kind, time, how in zip(volume.numbers, kinds, times, stored, strict=True)
        ]

    def _reference(self, uid: str) -> bytes:
        """Return the sequence that names the frame that one was derived from."""
        from pydicom import Dataset

        value = uid.encode() + b"\0" * (len(uid) % 2)

        def around() -> list[bytes]:
            ds = Dataset()
            stands_for = "9" * len(value)
            mark_derived(ds, (str(self._job.da.attrs["SOPClassUID"]), stands_for), ("DerivationDescription",), "")
            alone = Dataset()
            alone.add(ds["SourceImageSequence"])
            return encode(alone).split(stands_for.encode())

        before, after = self._remember(("reference", len(value)), around)
        return bytes(before + value + after)

    def _anew(self, form: HeadForm, vr: str, whole: bytes) -> bytes:
        """Return an element of a source as pydicom writes it; without a VR of its own it has that of other frames."""
        from pydicom.dataelem import RawDataElement
        from pydicom.filereader import read_dataset

        def written() -> bytes:
            # At the top level pydicom takes a length of two capital letters for a VR.
            ds = read_dataset(BytesIO(whole), form.is_implicit, True, at_top_level=False)
            for number, raw in ds.items():
                if form.is_implicit and isinstance(raw, RawDataElement):
                    ds[number] = raw._replace(VR=vr)
            if form.is_implicit:
                keep_values(ds)
            if self._job.drops_private:
                drop_private(ds)
            return encode(ds)

        return bytes(self._remember(("anew", form.is_implicit, vr, whole), written))

    def _may_patch(self) -> bool:
        """Return whether the files of the image are such that many have the same bytes but for a few elements."""
        job, count = self._job, self._columns.count
        if job.template is not None or job.keep_uid or job.is_colour or count < _FEW:
            return False
        if job.da.attrs.get("SOPClassUID") == RT_DOSE:  # which has no RescaleSlope to put in
            return False
        if not job.from_files:  # frames that were missing, and filled, were derived from none
            return "SOPInstanceUID" not in job.da.coords or all(self._columns.of("SOPInstanceUID"))
        if (job.original or not job.drops_private) and job.has_new_diffusion:
            return False
        return "SOPInstanceUID" in job.da.coords or count == 1
