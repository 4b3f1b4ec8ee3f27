"""The frames of an image to files: patched where that gives the same bytes, else element by element."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imagedata_xr.dicom.agreement import Agreement, FrameColumns
from imagedata_xr.dicom.basis import as_text
from imagedata_xr.dicom.derive import drop_private, mark_derived, window_fits
from imagedata_xr.dicom.described import DescribedHeads
from imagedata_xr.dicom.expand import lies_plainly
from imagedata_xr.dicom.frame_file import (
    Source,
    Storage,
    choose_storage,
    make_frame,
    set_frame_times,
    set_volume_times,
    storage_of,
    whole_file,
)
from imagedata_xr.dicom.gradients import OF_DIRECTION
from imagedata_xr.dicom.identity import several_series
from imagedata_xr.dicom.job import ChangedError, Job, new_uids
from imagedata_xr.dicom.label_elements import GRADIENT, LABELS, SAME_LABEL, label_element
from imagedata_xr.dicom.labels import UNCHANGED, NewTimes, dates_stayed, new_times, set_time
from imagedata_xr.dicom.layout import Walker
from imagedata_xr.dicom.patch import (
    FRAME_REFERENCE,
    OF_TIMES,
    PIXELS,
    PLACE,
    Answers,
    HeadForm,
    NotAlikeError,
    Pattern,
    SourceHead,
    dataset,
    encode,
    own_elements,
    place_element,
    read_source,
    split,
    text_elements,
    written,
)
from imagedata_xr.dicom.pixels import LyingPixels, SourcePixels, pixel_bytes
from imagedata_xr.dicom.places import SourceGrid, new_place
from imagedata_xr.dicom.stored import WHOLE, Place, is_of_one
from imagedata_xr.dicom.walk import SEQUENCE
from imagedata_xr.elements import decode, keyword, tag
from imagedata_xr.headers import header_values
from imagedata_xr.names import RT_DOSE
from imagedata_xr.streams import is_elsewhere
from imagedata_xr.verbatim import keep_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

    from imagedata_xr.dicom.save import Parts
    from imagedata_xr.elements import Raw, Value

    Load = Callable[[], NDArray[Any]]

__all__ = ["Patcher"]

_FEW: Final = 6
"""Frames of an image for which it is not worth to look what they have in common."""
_PIXEL_DATA: Final = tag("PixelData")
_SLOPE, _INTERCEPT = tag("RescaleSlope"), tag("RescaleIntercept")
_DATE, _TIME = tag("InstanceCreationDate"), tag("InstanceCreationTime")
_ZONE: Final = tag("TimezoneOffsetFromUTC")
_WINDOW: Final = (tag("WindowCenter"), tag("WindowWidth"))


class _Kind(NamedTuple):
    """What follows from what heads tell that are of one kind: the same but for elements that stay as they are."""

    number: int
    """Tells their files from others, but for elements that are put in."""
    fixed: dict[int, bytes]
    """Elements that are put in all their files: tag to all bytes."""
    pixels: SourcePixels
    """How values are stored in the sources."""
    can_be_copied: bool
    """Whether they are stored as in the files, but for bits that are not in use."""
    window: Dataset
    """What the sources tell of how values are shown; one object for all that tell the same."""


class _Times(NamedTuple):
    """What is new in the times that the source of a frame tells."""

    new: NewTimes
    elements: dict[int, bytes]
    """Those that tell times in the file; none where they are as in the source."""


class _Sources(NamedTuple):
    """What the heads of the sources of frames say, those of one volume."""

    heads: list[SourceHead]
    kinds: list[_Kind]
    times: list[_Times]


class _Volume(NamedTuple):
    """The frames of a volume that are to be written."""

    where: dict[str, int]
    """Its number along each tag dim."""
    numbers: dict[int, int]
    """Of each slice its InstanceNumber."""
    uids: list[str]
    """New SOPInstanceUIDs."""
    sources: _Sources
    storage: Storage
    own: dict[int, list[bytes]]
    """Elements that are put in the file of each frame: tag to all bytes, frame by frame."""


class Patcher:
    """Makes the files of the frames of an image, volume by volume."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._walker = Walker()
        self._patterns: dict[object, Pattern | None] = {}
        self._checked: set[object] = set()
        self._remember = Answers[Any]().of
        self._forms: dict[int, HeadForm] = {}
        self._kind_numbers: dict[object, int] = {}
        self._columns = columns = FrameColumns(job.da)
        names = {*job.tag_dims, *LABELS, *GRADIENT} - {"time"}
        labels = [map(str, columns.of(name)) for name in sorted(names) if name in job.da.coords]
        self._labels = list(zip(*labels, strict=True)) if labels else [()] * columns.count
        self._differ = self._set_in_files()
        self._learn()
        [date] = text_elements(_DATE, b"DA", [f"{job.now:%Y%m%d}"])
        [time] = text_elements(_TIME, b"TM", [f"{job.now:%H%M%S.%f}"])
        self._in_all = {_DATE: date, _TIME: time}

    @cached_property
    def _of_labels(self) -> frozenset[int]:
        """The elements that tell the labels along tag dims; that of trigger times is told as the times are."""
        coords = self._job.da.coords
        dims = [dim for dim in self._job.tag_dims if dim in coords and dim not in ("time", "triggertime")]
        return _known_tags(label_element(coords[dim])[0] for dim in dims)

    @cached_property
    def _agreement(self) -> Agreement:
        return Agreement(self._job, self._columns)

    @cached_property
    def _described(self) -> DescribedHeads:
        return DescribedHeads(self._job, self._columns, self._differ)

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
        sources = self._sources(index, numbers) if self._may_patch() else None
        if sources is None:
            yield from self._whole(index, numbers, load)
            return
        pixels, places = [kind.pixels for kind in sources.kinds], [head.place for head in sources.heads]
        storage = choose_storage(
            self._job,
            pixels,
            load,
            lambda: [Source(head.place, _grid(head), k) for head, k in zip(sources.heads, numbers, strict=True)],
        )
        uids = new_uids(len(places))
        own = self._own(index, numbers, uids, storage)
        volume = _Volume(index, dict(numbers), uids, sources, storage, own)
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
            else:
                values = storage.values(pixels[row], load()[row], places[row])
                yield uids[row], (heads[row], pixel_bytes(values))

    def _own(
        self, index: dict[str, int], numbers: Mapping[int, int], uids: list[str], storage: Storage
    ) -> dict[int, list[bytes]]:
        """Return the elements that are put in the file of each frame of a volume, but for those that tell times."""
        job = self._job
        own = own_elements(uids, numbers.values())
        if storage.rescale is not None:
            own[_SLOPE] = text_elements(_SLOPE, b"DS", [storage.rescale.slope]) * len(uids)
            own[_INTERCEPT] = text_elements(_INTERCEPT, b"DS", [storage.rescale.intercept]) * len(uids)
        has_source = "SOPClassUID" in job.da.attrs and "SOPInstanceUID" in job.da.coords
        if not job.original and has_source and not several_series(job.da):
            before, first = self._columns.of("SOPInstanceUID"), self._columns.first(index)
            own[FRAME_REFERENCE] = [self._reference(str(before[first + k])) for k in numbers]
        return own

    def _whole(self, index: dict[str, int], numbers: Mapping[int, int], load: Load) -> Iterator[tuple[str, Parts]]:
        """Yield the files of a volume, each written element by element."""
        job = self._job
        frames = {k: make_frame(job, index, k) for k in numbers}
        storage = storage_of(job, frames, load)
        set_volume_times(job, list(frames.values()), index)
        for (k, frame), plane, new_uid in zip(frames.items(), load(), new_uids(len(frames)), strict=True):
            uid, file = whole_file(job, frame, storage, plane, numbers[k], index, new_uid)
            yield uid, (file,)
            del frame.ds.PixelData  # one frame at a time is enough beside the volume

    def _lie(self, sources: _Sources, lying: Sequence[Place | None]) -> list[bool]:
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
        sources, storage, index = volume.sources, volume.storage, volume.where
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
        found, rescale = volume.storage.found, volume.storage.rescale
        stored = None if rescale is None or found is None else (rescale.dtype, rescale.is_identity, found.whole)
        first = self._columns.first(volume.where)
        _, kinds, times = volume.sources
        windows = {id(kind.window): kind.window for kind in kinds}
        fit = {key: None if found is None else window_fits(window, found) for key, window in windows.items()}
        return [
            (kind.number, tuple(time.elements), self._labels[first + k], fit[id(kind.window)], stored)
            for k, kind, time in zip(volume.numbers, kinds, times, strict=True)
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

    def _sources(self, index: dict[str, int], numbers: Mapping[int, int]) -> _Sources | None:
        """Return what the source heads of a volume say; None where they have to be read element by element."""
        places = [self._columns.first(index) + k for k in numbers]
        if self._job.from_files:
            paths = self._columns.of("source")
            heads = self._heads([str(paths[place]) for place in places])
            agree = heads is not None and self._agreement.holds(heads, places)
        else:
            heads, agree = self._described.of(places), True
        if heads is None or not agree:
            return None
        if self._job.original and any(any(raw.value) for head in heads for _, raw in head.raws(head.form.overlays)):
            return None  # they may lie in the pixels
        times = self._times(heads, index)
        if times is None:
            return None
        return _Sources(heads, self._kinds(heads, numbers), times)

    def _times(self, heads: Sequence[SourceHead], index: dict[str, int]) -> list[_Times] | None:
        """Return what is new in the times of a volume's frames; None where their elements tell other labels, too."""
        keys = [(head.form.version, head.form.times(head.values)) for head in heads]
        alike = dict(zip(keys, heads, strict=True))
        told = [_time_values(head) for head in alike.values()]
        labels = self._job.times
        new = new_times(told, labels, index)
        stays = self._job.from_files and new == UNCHANGED
        if stays and not labels.are_of_writing and not any(dates_stayed(head, labels) for head in told):
            return [_Times(new, {})] * len(heads)
        found: dict[object, _Times] = {}
        for key, head in alike.items():
            ds = dataset((number, raw) for number, raw in head.raws(OF_TIMES) if raw is not SEQUENCE)
            set_frame_times(self._job, ds, new, index)
            if not self._job.from_files:
                set_time(ds, labels, index, self._job.now)
            elements = dict(split(encode(ds)))
            elements.pop(_ZONE, None)
            if elements.keys() & self._of_labels:
                return None
            found[key] = _Times(new, elements)
        return [found[key] for key in keys]

    def _learn(self) -> None:
        """Let the walker know which elements differ, before a file is made from what heads have in common."""
        if self._job.from_files and self._may_patch():
            paths = [str(path) for path in self._columns.of("source") if path]  # frames that are absent have none
            for path in {paths[0], paths[len(paths) // 2], paths[-1]}:
                if not is_elsewhere(path):
                    read_source(path, self._walker)

    def _heads(self, paths: list[str]) -> list[SourceHead] | None:
        """Return the heads of files; None where one is not laid out in a known way."""
        walker = self._walker
        taught, files = walker.taught, []
        for path in paths:
            file = None if is_elsewhere(path) else read_source(path, walker)
            if file is None:
                return None
            files.append(file)
        if walker.taught != taught:
            # Only now, when the walker has learnt from all of them where they differ.
            files = [file._replace(cut=walker.cut(file.data, file.size)) for file in files]
        heads = []
        for file in files:
            if file.cut is None:
                return None
            shape, values, opened, offset, length = file.cut
            if not lies_plainly(shape.syntax, offset, length):
                offset, length = -1, 0
            form = self._forms.get(shape.version)
            if form is None:
                form = HeadForm(shape, self._differ, drops_private=self._job.drops_private)
                self._forms[shape.version] = form
            place = Place(file.path, offset, length, 0, WHOLE, (file.size, file.mtime))
            heads.append(SourceHead(form, values, opened, place))
        return heads

    def _kinds(self, heads: Sequence[SourceHead], numbers: Iterable[int]) -> list[_Kind]:
        """Return of which kind the heads of slices are."""
        return [
            self._remember((k, head.told(), head.form.all_told(head.values)), partial(self._kind, head, k))
            for head, k in zip(heads, numbers, strict=True)
        ]

    def _kind(self, head: SourceHead, k: int) -> _Kind:
        place = head.raws(sorted(PLACE))
        changes, elements = self._remember(("place", k, place), lambda: self._placed(place, k))
        if self._job.original and changes:
            raise ChangedError(f"its geometry was changed ({changes})")
        told = head.raws(sorted(PIXELS))
        pixels = self._remember(("pixels", told), lambda: SourcePixels.of(dataset(told)))
        key = (head.told(), changes, tuple(elements))
        number = self._kind_numbers.setdefault(key, len(self._kind_numbers))
        form, is_grey = pixels.form, pixels.is_grey(rescaled=self._job.is_rescaled)
        window = head.raws(_WINDOW)
        shown = self._remember(("window", window), partial(dataset, window))
        can_be_copied = is_grey and form.is_plain and not form.size % 2
        return _Kind(number, self._in_all | elements, pixels, can_be_copied, shown)

    def _placed(self, told: tuple[tuple[int, Raw], ...], k: int) -> tuple[str, dict[int, bytes]]:
        """Return how the place of a frame differs from the one told by its source, and the elements that tell it."""
        job, raws, read = self._job, {keyword(number): raw for number, raw in told}, set()

        def value_of(name: str) -> Value | None:
            read.add(name)
            return decode(tag(name), raws[name])

        shape = (job.da.sizes["row"], job.da.sizes["col"])
        changes, new = new_place(raws, value_of, job.places, k, shape, original=job.original)
        elements: dict[int, bytes] = {}
        for name, value in new.items():
            before = raws.get(name)
            key = ("put", name, None if before is None else before.vr, repr(value))
            elements |= self._remember(key, partial(place_element, name, value, before))
        for number, raw in told:
            name = keyword(number)
            if name not in new:
                written_as = partial(written, number, raw, read=name in read)
                elements[number] = self._remember(("written", number, raw, name in read), written_as)
        return changes, dict(sorted(elements.items()))

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

    def _set_in_files(self) -> frozenset[int]:
        """Return the elements that may be changed in a file: those that the whole image tells, and labels."""
        job = self._job
        first = self._columns.one_frame()
        whole = {name for name in header_values(first) if name not in job.da.coords or not job.da.coords[name].ndim}
        names = {*whole, *SAME_LABEL.values(), *(name for name, _ in LABELS.values()), *OF_DIRECTION}
        return _known_tags(names | {"ImageType"}) | self._of_labels


def _grid(head: SourceHead) -> SourceGrid:
    raws = {keyword(number): raw for number, raw in head.raws(sorted(PLACE))}
    return SourceGrid.of(lambda name: decode(tag(name), raws[name]) if name in raws else None)


def _known_tags(names: Iterable[str]) -> frozenset[int]:
    """Return the tags of those names that are elements."""
    found = set()
    for name in names:
        with suppress(ValueError):
            found.add(tag(name))
    return frozenset(found)


def _time_values(head: SourceHead) -> dict[str, Any]:
    """Return the elements that tell when a frame was acquired."""
    return {keyword(number): decode(number, raw) for number, raw in head.raws(OF_TIMES) if raw is not SEQUENCE}
