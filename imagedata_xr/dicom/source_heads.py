"""The heads of the files that frames come from: of which kind each is, and what is new in place and times.

Frames whose heads are of one kind give files that have the same bytes but for what is put in, see
`imagedata_xr.dicom.patch`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imagedata_xr.dicom.agreement import Agreement, FrameColumns
from imagedata_xr.dicom.described import DescribedHeads
from imagedata_xr.dicom.expand import lies_plainly
from imagedata_xr.dicom.frame_file import set_frame_times
from imagedata_xr.dicom.gradients import OF_DIRECTION
from imagedata_xr.dicom.job import ChangedError, Job
from imagedata_xr.dicom.label_elements import LABELS, SAME_LABEL, label_element
from imagedata_xr.dicom.labels import dates_stayed, new_times, set_time
from imagedata_xr.dicom.layout import Walker
from imagedata_xr.dicom.moments import UNCHANGED, NewTimes
from imagedata_xr.dicom.patch import (
    OF_TIMES,
    PIXELS,
    PLACE,
    Answers,
    HeadForm,
    SourceHead,
    dataset,
    encode,
    place_element,
    read_source,
    split,
    text_elements,
    written,
)
from imagedata_xr.dicom.pixels import SourcePixels
from imagedata_xr.dicom.places import SourceGrid, new_place
from imagedata_xr.dicom.stored import WHOLE, Place
from imagedata_xr.dicom.walk import SEQUENCE
from imagedata_xr.elements import decode, keyword, tag
from imagedata_xr.headers import header_values
from imagedata_xr.streams import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydicom import Dataset

    from imagedata_xr.elements import Raw, Value

__all__ = ["Kind", "SourceHeads", "Sources", "Times", "grid_of"]

_MOMENT: Final = tag("AcquisitionDateTime")
_DATE, _TIME = tag("InstanceCreationDate"), tag("InstanceCreationTime")
_ZONE: Final = tag("TimezoneOffsetFromUTC")
_WINDOW: Final = (tag("WindowCenter"), tag("WindowWidth"))


class Kind(NamedTuple):
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


class Times(NamedTuple):
    """What is new in the times that the source of a frame tells."""

    new: NewTimes
    elements: dict[int, bytes]
    """Those that tell times in the file; none where they are as in the source."""


class Sources(NamedTuple):
    """What the heads of the sources of frames say, those of one volume."""

    heads: list[SourceHead]
    kinds: list[Kind]
    times: list[Times]


class SourceHeads:
    """Reads the heads of the sources of an image, or makes those that its attributes and coordinates tell.

    Parameters
    ----------
    job : Job
        What to write.
    columns : FrameColumns
        Of its image.
    """

    def __init__(self, job: Job, columns: FrameColumns) -> None:
        self._job, self._columns = job, columns
        self._walker = Walker()
        self._remember = Answers[Any]().of
        self._forms: dict[int, HeadForm] = {}
        self._kind_numbers: dict[object, int] = {}
        self._differ = self._set_in_files()
        [date] = text_elements(_DATE, b"DA", [f"{job.now:%Y%m%d}"])
        [time] = text_elements(_TIME, b"TM", [f"{job.now:%H%M%S.%f}"])
        self._in_all = {_DATE: date, _TIME: time}
        if job.from_files:
            self._learn()

    def of_volume(self, index: dict[str, int], numbers: Mapping[int, int]) -> Sources | None:
        """Return what the source heads of a volume say; None where they have to be read element by element.

        Parameters
        ----------
        index : dict
            Number of the volume along each tag dim.
        numbers : mapping
            Has the numbers of its slices.

        Raises
        ------
        ChangedError
            If the geometry of an original is not that of its files.
        """
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
        return Sources(heads, self._kinds(heads, numbers), times)

    def _times(self, heads: Sequence[SourceHead], index: dict[str, int]) -> list[Times] | None:
        """Return what is new in the times of a volume's frames; None where their elements tell other labels, too."""
        keys = [(head.form.version, head.form.times(head.values)) for head in heads]
        alike = dict(zip(keys, heads, strict=True))
        told = [_time_values(head) for head in alike.values()]
        labels = self._job.times
        new = new_times(told, labels, index)
        stays = self._job.from_files and new == UNCHANGED
        if stays and not labels.are_of_writing and not any(dates_stayed(head, labels) for head in told):
            return [Times(new, {})] * len(heads)
        found: dict[object, Times] = {}
        for key, head in alike.items():
            ds = dataset((number, raw) for number, raw in head.raws(OF_TIMES) if raw is not SEQUENCE)
            set_frame_times(self._job, ds, new, index)
            if not self._job.from_files:
                set_time(ds, labels, index, self._job.now)
            elements = dict(split(encode(ds)))
            elements.pop(_ZONE, None)
            if elements.keys() & self._of_labels:
                return None
            found[key] = Times(new, elements)
        return [found[key] for key in keys]

    def _learn(self) -> None:
        """Let the walker know which elements differ, before a file is made from what heads have in common."""
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

    def _kinds(self, heads: Sequence[SourceHead], numbers: Iterable[int]) -> list[Kind]:
        """Return of which kind the heads of slices are."""
        return [
            self._remember((k, head.told(), head.form.all_told(head.values)), partial(self._kind, head, k))
            for head, k in zip(heads, numbers, strict=True)
        ]

    def _kind(self, head: SourceHead, k: int) -> Kind:
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
        return Kind(number, self._in_all | elements, pixels, can_be_copied, shown)

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

    def _set_in_files(self) -> frozenset[int]:
        """Return the elements that may be changed in a file: those that the whole image tells, and labels."""
        job = self._job
        first = self._columns.one_frame()
        whole = {name for name in header_values(first) if name not in job.da.coords or not job.da.coords[name].ndim}
        names = {*whole, *SAME_LABEL.values(), *(name for name, _ in LABELS.values()), *OF_DIRECTION}
        found = _known_tags(names | {"ImageType"}) | self._of_labels
        # What a frame of a file of many tells of itself is its own, though the whole file has an element of that name.
        return found if job.from_files else found - {_MOMENT}


def grid_of(head: SourceHead) -> SourceGrid:
    """Return where the pixels of a source are."""
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
