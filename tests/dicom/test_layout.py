"""A walker that remembers how heads are laid out says of each file what a walk of it alone says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

import imagedata_xr.dicom.layout as layout
from imagedata_xr.dicom.layout import Walker
from imagedata_xr.dicom.patch import HeadForm, SourceHead
from imagedata_xr.dicom.scan import list_files
from imagedata_xr.dicom.stored import WHOLE, Place
from imagedata_xr.dicom.walk import BeyondEnd, Head, ShortHeadError, Span, StepAside, walk
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless)


def told(reader: Callable[[bytes, int], Head], data: bytes, size: int) -> object:
    """Return what a walk gives or raises."""
    try:
        head = reader(data, size)
        elements = head.elements.whole()
        assert all(head.elements.get(number) == raw for number, raw in elements.items())
        return head._replace(elements=elements)
    except (StepAside, ShortHeadError) as err:
        return type(err)


def assert_same(heads: Iterable[bytes], sizes: Iterable[int] | None = None) -> int:
    """Compare a walker that sees the heads one after the other with a walk of each; return how many are heads."""
    walker, found = Walker(), 0
    heads = list(heads)
    for number, (data, size) in enumerate(zip(heads, sizes or map(len, heads), strict=True)):
        alone = told(walk, data, size)
        assert told(walker.walk, data, size) == alone, number
        found += not isinstance(alone, type)
    return found


def vary(ds: Dataset, t: int, z: int) -> Dataset:
    """Give a frame what differs between files of scanners: lengths, private elements, sequences, elements left out."""
    rng = random.Random(1000 * t + z)
    ds.ImageComments = "x" * rng.randrange(40)
    block = ds.private_block(0x0019, "A VENDOR", create=True)
    block.add_new(0x01, "LT", "v" * rng.choice((2, 3, 255, 256, 257, 400)))
    block.add_new(0x02, "OB", bytes(rng.randrange(0, 300, 2)))
    block.add_new(0x03, "UN", bytes(rng.randrange(0, 300, 2)))
    other = ds.private_block(0x0029, "A VENDOR", create=True)
    other.add_new(0x10, "OB", bytes(rng.randrange(0, 90, 2)))
    item = Dataset()
    item.CodeValue = "A" * rng.randrange(9)
    ds.ReferencedImageSequence = DicomSequence([item] * rng.randrange(3))
    ds["ReferencedImageSequence"].is_undefined_length = rng.random() < 0.5
    ds.SmallestImagePixelValue = rng.randrange(5)
    if rng.random() < 0.2:
        del ds.ImageComments
    if rng.random() < 0.2:
        ds.PatientComments = "now and then"
    return ds


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    """Return the files of series of several encodings."""
    folder = tmp_path_factory.mktemp("series")
    written = [
        write_series(folder / f"{k}", times=4, slices=4, transfer_syntax=syntax, mutate=vary, series=str(k))
        for k, syntax in enumerate(SYNTAXES)
    ]
    return [[file.read_bytes() for file in files] for files in written]


def test_real_files(shared_data: Path) -> None:
    heads, sizes = [], []
    for name in list_files(shared_data):
        file = Path(name)
        with file.open("rb") as stream:
            heads.append(stream.read(1 << 16))
        sizes.append(file.stat().st_size)
    assert assert_same(heads, sizes) > 500
    order = list(range(len(heads)))
    random.Random(1).shuffle(order)
    assert_same([heads[k] for k in order], [sizes[k] for k in order])


def test_series_of_several_encodings(series: list[list[bytes]]) -> None:
    for files in series:
        assert assert_same(files) == len(files)


def test_series_that_lie_mixed(series: list[list[bytes]]) -> None:
    files = [data for many in series for data in many] * 2
    random.Random(2).shuffle(files)
    assert assert_same(files) == len(files)


def test_elements_that_say_what_others_mean(tmp_path: Path) -> None:
    """Signed and unsigned files, implicit, whose values are as many bytes."""

    def signed(ds: Dataset, t: int, _z: int) -> Dataset:
        ds.PixelRepresentation = t % 2
        ds.add_new("SmallestImagePixelValue", "SS" if t % 2 else "US", 7)
        return ds

    files = write_series(tmp_path / "a", times=6, transfer_syntax=ImplicitVRLittleEndian, mutate=signed)
    assert assert_same(file.read_bytes() for file in files) == 24


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(changed[: rng.randrange(100, len(changed))])
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(100, len(changed))
        if kind <= 2:
            changed[at] = rng.choice((0, 1, 0xFF, changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
        elif kind == 3:
            del changed[at : at + rng.choice((1, 2, 4, 8))]
        else:
            changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_between_sound_ones(series: list[list[bytes]], seed: int) -> None:
    rng = random.Random(seed)
    files = []
    for _ in range(400):
        data = rng.choice(rng.choice(series))
        files.append(damaged(data, rng) if rng.random() < 0.6 else data)
    assert assert_same(files) > 150


@given(cut=st.integers(100, 2000), at=st.integers(0, 15))
@settings(max_examples=150)
def test_heads_that_are_cut(series: list[list[bytes]], cut: int, at: int) -> None:
    """What ends early is asked for more, or refused, wherever it ends."""
    files = series[0]
    walker = Walker()
    for data in files:
        walker.walk(data, len(data))
    data = files[at]
    for size in (len(data), min(cut, len(data))):
        assert told(walker.walk, data[:cut], size) == told(walk, data[:cut], size)


def test_files_of_one_layout_are_walked_once_or_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the layout is for: almost no head is parsed."""
    files = [file.read_bytes() for file in write_series(tmp_path / "a", times=10, slices=10)]
    walked = 0

    def counted(data: bytes, size: int, spans: object = None) -> object:
        nonlocal walked
        walked += 1
        return walk(data, size, spans)  # type: ignore[arg-type]  # spans as they come

    monkeypatch.setattr(layout, "walk", counted)
    walker = Walker()
    for data in files:
        walker.walk(data, len(data))
    assert walked <= 12


def test_what_a_known_layout_claims_beyond_the_end(series: list[list[bytes]]) -> None:
    walker = Walker()
    for data in series[0]:
        walker.walk(data, len(data))
    with pytest.raises(BeyondEnd):
        walker.walk(series[0][0][:700], 700)


def test_what_differs_is_cut_out_as_it_lies(series: list[list[bytes]]) -> None:
    """Of heads in which some elements have an end of their own, too: the bytes put together again are those there."""
    for files in (*series, [data for many in series for data in many]):
        walker, known, opened = Walker(), 0, 0
        for data in files * 2:
            walker.walk(data, len(data))
        for data in files:
            cut = walker.cut(data, len(data))
            if cut is None:
                continue
            known += 1
            spans: list[Span] = []
            head = walk(data, len(data), spans)
            assert (cut.shape.syntax, cut.pixel_offset, cut.pixel_length) == (
                head.syntax,
                head.pixel_offset,
                head.pixel_length,
            )
            lying = {span.number: data[span.start : span.end] for span in spans}
            source = SourceHead(
                HeadForm(cut.shape, frozenset(), drops_private=False), *cut[1:3], Place("", 0, 0, 0, WHOLE)
            )
            for at, (number, _) in enumerate(cut.shape.kinds):
                assert source.whole(at) == lying.pop(number)
            shared = {number: raw for number, raw in head.elements.whole().items() if number in lying}
            assert shared.items() <= cut.shape.shared.items()
            opened += len(cut.open)
        assert known > 10
        assert opened
