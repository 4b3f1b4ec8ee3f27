"""The frames of an image to files: patched where that gives the same bytes, else element by element."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imagedata_xr.dicom.agreement import Agreement, FrameColumns
from imagedata_xr.dicom.basis import as_text
from imagedata_xr.dicom.derive import drop_private, mark_derived, window_fits
from imagedata_xr.dicom.expand import is_plain
from imagedata_xr.dicom.frame_file import (
    Frame,
    Source,
    Storage,
    choose_storage,
    make_frame,
    set_frame_times,
    set_volume_times,
    whole_file,
)
from imagedata_xr.dicom.gradients import OF_DIRECTION
from imagedata_xr.dicom.job import ChangedError, Job, new_uids
from imagedata_xr.dicom.label_elements import GRADIENT, LABELS, SAME_LABEL, label_element
from imagedata_xr.dicom.labels import UNCHANGED, NewTimes, dates_stayed, new_times
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
    SourceFile,
    SourceHead,
    dataset,
    encode,
    read_source,
    split,
    text_element,
    uid_elements,
    written,
)
from imagedata_xr.dicom.pixels import LyingPixels, SourcePixels, pixel_bytes
from imagedata_xr.dicom.places import SourceGrid, new_place, put_place
from imagedata_xr.dicom.stored import WHOLE, Place, is_of_one
from imagedata_xr.dicom.walk import SEQUENCE
from imagedata_xr.elements import decode, keyword, tag
from imagedata_xr.headers import header_values
from imagedata_xr.streams import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.layout import Cut
    from imagedata_xr.elements import Raw, Value

__all__ = ["Patcher"]

_FEW: Final = 6
"""Frames of an image for which it is not worth to look what they have in common."""
_PIXEL_DATA: Final = tag("PixelData")
_MOST_KNOWN: Final = 20_000
"""Answers that are kept."""
_MOST_FORMS: Final = 256
"""Forms of heads that are kept."""
_NUMBER: Final = tag("InstanceNumber")
_SLOPE, _INTERCEPT = tag("RescaleSlope"), tag("RescaleIntercept")
_DATE, _TIME = tag("InstanceCreationDate"), tag("InstanceCreationTime")
_ZONE: Final = tag("TimezoneOffsetFromUTC")
_WINDOW: Final = (tag("WindowCenter"), tag("WindowWidth"))


Part = bytes | memoryview | LyingPixels
Parts = tuple[Part, ...]
"""A file, in parts that follow each other."""
Load = Callable[[], "NDArray[Any]"]
"""Returns the values of a volume, shape (slice, row, col); what it has read, it keeps."""


class _One(NamedTuple):
    """A frame that is to be written."""

    volume: dict[str, int]
    """Number of its volume along each tag dim."""
    k: int
    """Number of its slice."""
    number: int
    """InstanceNumber."""
    uid: str
    """New SOPInstanceUID."""
    pixels: LyingPixels | None
    """Its pixels, where they are known without its values."""
    plane: Callable[[], NDArray[Any]]
    """Returns its values, shape (row, col)."""


class _Kind(NamedTuple):
    """What follows from what heads tell that are of one kind: the same but for elements that stay as they are."""

    key: tuple[object, ...]
    """Tells their files from others, but for elements that are put in."""
    fixed: dict[int, bytes]
    """Elements that are put in all their files."""
    pixels: SourcePixels
    """How values are stored in the sources."""
    can_be_copied: bool
    """Whether they are stored as in the files, but for bits that are not in use."""


class _Times(NamedTuple):
    """What is new in the times that the source of a frame tells."""

    new: NewTimes
    elements: dict[int, bytes]
    """Those that tell times in the file; none where they are as in the source."""


class _Source(NamedTuple):
    """What the head of a frame's source says."""

    head: SourceHead
    values: Place
    """Where its stored values lie."""
    kind: _Kind
    times: _Times


class Patcher:
    """Makes the files of the frames of an image, volume by volume."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._walker = Walker()
        self._patterns: dict[object, Pattern | None] = {}
        self._checked: set[object] = set()
        self._remember = Answers[Any](_MOST_KNOWN).of
        self._forms = Answers[HeadForm](_MOST_FORMS)
        self._columns = columns = FrameColumns(job.da)
        names = {*job.tag_dims, *LABELS, *GRADIENT} - {"time"}
        labels = [map(str, columns.of(name)) for name in sorted(names) if name in job.da.coords]
        self._labels = list(zip(*labels, strict=True)) if labels else [()] * columns.count
        self._differ = self._set_in_files()
        self._learn()
        self._in_all = text_element(_DATE, b"DA", f"{job.now:%Y%m%d}") | text_element(
            _TIME, b"TM", f"{job.now:%H%M%S.%f}"
        )

    @cached_property
    def _of_labels(self) -> frozenset[int]:
        """The elements that tell the labels along tag dims; that of trigger times is told as the times are."""
        coords = self._job.da.coords
        dims = [dim for dim in self._job.tag_dims if dim in coords and dim not in ("time", "triggertime")]
        return _known_tags(label_element(coords[dim])[0] for dim in dims)

    @cached_property
    def _agreement(self) -> Agreement:
        return Agreement(self._job, self._columns)

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
        """
        sources = self._sources(index, numbers) if self._may_patch() else None
        if sources is None:
            yield from self._whole(index, numbers, load)
            return
        job = self._job
        storage = choose_storage(
            job,
            [source.kind.pixels for source in sources],
            load,
            lambda: [Source(s.values, _grid(s.head), k) for s, k in zip(sources, numbers, strict=True)],
        )
        of_volume: dict[int, bytes] = {}
        if storage.rescale is not None:
            of_volume |= text_element(_SLOPE, b"DS", storage.rescale.slope)
            of_volume |= text_element(_INTERCEPT, b"DS", storage.rescale.intercept)
        refers = not job.original and "SOPClassUID" in job.da.attrs and "SOPInstanceUID" in job.da.coords
        first = self._columns.first(index)
        for row, ((k, number), source, uid) in enumerate(
            zip(numbers.items(), sources, new_uids(len(sources)), strict=True)
        ):
            own = of_volume | source.times.elements | uid_elements(uid) | text_element(_NUMBER, b"IS", str(number))
            if refers:
                own[FRAME_REFERENCE] = self._reference(str(self._columns.of("SOPInstanceUID")[first + k]))
            one = _One(index, k, number, uid, self._lying(source, lying[row]), partial(_row, load, row))
            yield uid, self._file(source, storage, own, one)

    def _whole(self, index: dict[str, int], numbers: Mapping[int, int], load: Load) -> Iterator[tuple[str, Parts]]:
        """Yield the files of a volume, each written element by element."""
        job = self._job
        frames = [self._frame(index, k) for k in numbers]
        headers = [frame.ds for frame in frames]
        storage = choose_storage(
            job,
            [SourcePixels.of(header) for header in headers],
            load,
            lambda: [
                Source(Place(frame.source, -1, 0, 0, WHOLE), frame.grid, k)
                for frame, k in zip(frames, numbers, strict=True)
            ],
        )
        set_volume_times(job, frames, index)
        for frame, number, plane, new_uid in zip(frames, numbers.values(), load(), new_uids(len(frames)), strict=True):
            uid, file = whole_file(job, frame, storage, plane, number, index, new_uid)
            yield uid, (file,)
            del frame.ds.PixelData  # one frame at a time is enough beside the volume

    def _frame(self, index: dict[str, int], k: int) -> Frame:
        return make_frame(self._job, self._job.da.isel({**index, "slice": k}), index, k)

    def _lying(self, source: _Source, place: Place | None) -> LyingPixels | None:
        """Return the pixels of an original of which is known that its values lie in its source as they are."""
        if place is None or place != source.values or place.offset < 0 or not source.kind.can_be_copied:
            return None
        form = source.kind.pixels.form
        is_whole = is_of_one(place.length, form.size)
        return LyingPixels(place, form) if is_whole and source.head.head.pixel_tag == _PIXEL_DATA else None

    def _file(self, source: _Source, storage: Storage, own: dict[int, bytes], one: _One) -> Parts:
        """Return the file of a frame, in which the elements `own` are put."""
        key = self._key(source, storage, self._columns.first(one.volume) + one.k)
        pattern, patched, kind = self._patterns.get(key), None, source.kind
        if pattern is not None:
            pixels: Part = one.pixels or pixel_bytes(storage.values(kind.pixels, one.plane(), source.values))
            patched = pattern.head(source.head, kind.fixed, own), pixels
            if key in self._checked:
                return patched
        frame = self._frame(one.volume, one.k)
        set_frame_times(self._job, frame.ds, source.times.new, one.volume)
        _, file = whole_file(self._job, frame, storage, one.plane(), one.number, one.volume, one.uid)
        if key not in self._patterns:
            self._patterns[key] = None
            # Text in another character set changes every text of the header.
            if all(as_text(value).isascii() for value in frame.told.values()):
                with suppress(NotAlikeError):
                    self._patterns[key] = Pattern(file, source.head, kind.fixed | own, self._sequence)
        elif patched is not None and b"".join(map(_as_bytes, patched)) == file:
            self._checked.add(key)
        else:
            self._patterns[key] = None
        return (file,)

    def _key(self, source: _Source, storage: Storage, place: int) -> tuple[object, ...]:
        """Return what tells the file of a frame from others, but for what is put in it."""
        found, rescale, head = storage.found, storage.rescale, source.head
        if found is None:
            fits = None
        else:
            window = head.raws(_WINDOW)
            fits = self._remember(("window", window, found), lambda: window_fits(dataset(window), found))
        stored = None if rescale is None else (rescale.dtype, rescale.is_identity)
        return (source.kind.key, tuple(source.times.elements), self._labels[place], fits, stored)

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

    def _sequence(self, source: SourceHead, number: int) -> bytes:
        """Return a sequence of a source as it is written."""
        from pydicom.filereader import read_dataset

        part = source.form.parts[number]
        whole = source.data[part.start : part.end]

        def written() -> bytes:
            ds = read_dataset(BytesIO(whole), source.head.syntax == "1.2.840.10008.1.2", True)
            if self._job.drops_private:
                drop_private(ds)
            return encode(ds)

        return bytes(self._remember(("sequence", source.head.syntax, whole), written))

    def _sources(self, index: dict[str, int], numbers: Mapping[int, int]) -> list[_Source] | None:
        """Return what the source heads of a volume say; None where they have to be read element by element."""
        first = self._columns.first(index)
        places = [first + k for k in numbers]
        paths = [str(self._columns.of("source")[place]) for place in places]
        files = self._files(paths)
        heads = None if files is None else self._heads(files)
        if files is None or heads is None or not self._agreement.holds(heads, places):
            return None
        if self._job.original and any(any(raw.value) for head in heads for _, raw in head.raws(head.form.overlays)):
            return None  # they may lie in the pixels
        times = self._times(heads, index)
        if times is None:
            return None
        return [self._source(*one) for one in zip(paths, files, heads, times, numbers, strict=True)]

    def _times(self, heads: Sequence[SourceHead], index: dict[str, int]) -> list[_Times] | None:
        """Return what is new in the times of a volume's frames; None where their elements tell other labels, too."""
        keys = [(head.form.version, head.own(head.form.times)) for head in heads]
        alike = dict(zip(keys, heads, strict=True))
        told = [_time_values(head) for head in alike.values()]
        labels = self._job.times
        new = new_times(told, labels, index)
        if new == UNCHANGED and not labels.are_of_writing and not any(dates_stayed(head, labels) for head in told):
            return [_Times(new, {})] * len(heads)
        found: dict[object, _Times] = {}
        for key, head in alike.items():
            ds = dataset((number, raw) for number, raw in head.raws(OF_TIMES) if raw is not SEQUENCE)
            set_frame_times(self._job, ds, new, index)
            elements = dict(split(encode(ds)))
            elements.pop(_ZONE, None)
            if elements.keys() & self._of_labels:
                return None
            found[key] = _Times(new, elements)
        return [found[key] for key in keys]

    def _learn(self) -> None:
        """Let the walker know which elements differ, before a file is made from what heads have in common."""
        if self._may_patch():
            paths = [str(path) for path in self._columns.of("source") if path]  # frames that are absent have none
            for path in {paths[0], paths[len(paths) // 2], paths[-1]}:
                if not is_elsewhere(path):
                    read_source(path, self._walker)

    def _files(self, paths: list[str]) -> list[SourceFile] | None:
        """Return what was read of files that are laid out in known ways."""
        walker = self._walker
        taught, read = walker.taught, []
        for path in paths:
            one = None if is_elsewhere(path) else read_source(path, walker)
            if one is None:
                return None
            read.append(one)
        if walker.taught != taught:
            # Only now, when the walker has learnt from all of them where they differ.
            read = [file._replace(cut=walker.cut(file.data, file.size)) for file in read]
        return read

    def _heads(self, files: Sequence[SourceFile]) -> list[SourceHead] | None:
        """Return the heads of files."""
        found = []
        for file in files:
            data, cut = file.data, file.cut
            if cut is None:
                return None
            # The form keeps the parts, so that no others get their identity.
            found.append(SourceHead(data, cut.head, self._forms.of(id(cut.parts), partial(self._form, cut, data))))
        return found

    def _form(self, cut: Cut, data: bytes) -> HeadForm:
        return HeadForm(cut, data, self._differ, drops_private=self._job.drops_private)

    def _source(self, path: str, file: SourceFile, head: SourceHead, times: _Times, k: int) -> _Source:
        key, whole = head.form.key(head.data, placed=True), head.head
        kind = self._remember((k, key), lambda: self._kind(head, k))
        offset, length = (whole.pixel_offset, whole.pixel_length) if is_plain(whole) else (-1, 0)
        return _Source(head, Place(path, offset, length, 0, WHOLE, (file.size, file.mtime)), kind, times)

    def _kind(self, head: SourceHead, k: int) -> _Kind:
        place = head.raws(sorted(PLACE))
        changes, elements = self._remember(("place", k, place), lambda: self._placed(place, k))
        if self._job.original and changes:
            raise ChangedError(f"its geometry was changed ({changes})")
        told = head.raws(sorted(PIXELS))
        pixels = self._remember(("pixels", told), lambda: SourcePixels.of(dataset(told)))
        key = (head.form.key(head.data, placed=False), changes, tuple(elements))
        form, is_grey = pixels.form, pixels.is_grey(rescaled=self._job.is_rescaled)
        # One object for all of the same content, by which patterns know it.
        fixed = self._remember(("fixed", tuple(elements.items())), lambda: self._in_all | elements)
        return _Kind(key, fixed, pixels, is_grey and form.is_plain and not form.size % 2)

    def _placed(self, told: tuple[tuple[int, Raw], ...], k: int) -> tuple[str, dict[int, bytes]]:
        """Return how the place of a frame differs from the one told by its source, and the elements that tell it."""
        job, raws, read = self._job, {keyword(number): raw for number, raw in told}, set()

        def value_of(name: str) -> Value | None:
            read.add(name)
            return decode(tag(name), raws[name])

        shape = (job.da.sizes["row"], job.da.sizes["col"])
        changes, new = new_place(raws, value_of, job.places, k, shape, original=job.original)
        replaced = dataset((number, raw) for number, raw in told if keyword(number) in new)
        put_place(replaced, new)
        elements = dict(split(encode(replaced))) if new else {}
        for number, raw in told:
            name = keyword(number)
            if name not in new:
                key = (number, raw, name in read)
                elements[number] = self._remember(("written", *key), partial(written, number, raw, read=name in read))
        return changes, dict(sorted(elements.items()))

    def _may_patch(self) -> bool:
        """Return whether the files of the image are such that many have the same bytes but for a few elements."""
        job, count = self._job, self._columns.count
        if not job.from_files or job.template is not None or job.keep_uid or job.is_colour or count < _FEW:
            return False
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


def _row(load: Load, row: int) -> NDArray[Any]:
    plane: NDArray[Any] = load()[row]
    return plane


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


def _as_bytes(part: Part) -> bytes | memoryview:
    return part.read(np.empty(part.form.size, np.uint8)) if isinstance(part, LyingPixels) else part


def _time_values(head: SourceHead) -> dict[str, Any]:
    """Return the elements that tell when a frame was acquired."""
    return {keyword(number): decode(number, raw) for number, raw in head.raws(OF_TIMES) if raw is not SEQUENCE}
