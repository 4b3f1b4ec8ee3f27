"""Private elements are written with all that they had, whatever a scanner has put in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

import imagedata_xr as ixr
from tests.dicom.test_patcher import both_ways, same_uids
from tests.generate import add_overlay, write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr

__all__ = ["same_uids"]  # a fixture of all tests

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
VALUES = (
    *(b"abcdef", b"ab", b"abcd", b"abcdefghij", b"\xff\xfe\x80 a\\b ", b"  1.50\\ 2 \\", b"1.5\\x ", b"3"),
    *(b"\xfe\xff\x00\xe0\x02\0\0\0ab", b"\xfe\xff\x00\xe0\xff\0\0\0ab", b"A=B=C^D\\\x1b$Bxx", b"\0\0\0\0", b""),
)


def of_each_vr() -> dict[str, tuple[str, int, int]]:
    """Return creator, group and number in its block of a private element of each VR that pydicom knows of such."""
    from pydicom._private_dict import private_dictionaries

    found: dict[str, tuple[str, int, int]] = {}
    for creator, known in private_dictionaries.items():
        for name, (vr, *_) in known.items():
            if len(name) == 8 and name[4:6] == "xx" and "x" not in name[:4] + name[6:]:
                found.setdefault(vr, (creator, int(name[:4], 16), int(name[6:], 16)))
    assert {"FD", "SQ", "US or SS", "AT", "DS"} <= found.keys()
    return found


def add_of_each_vr(ds: Dataset, value: bytes) -> None:
    blocks: dict[tuple[int, str], int] = {}
    for creator, group, number in of_each_vr().values():
        block = blocks.setdefault((group, creator), 0x20 + len(blocks))
        ds.add_new(group << 16 | block, "LO", creator)
        ds.add_new(group << 16 | block << 8 | number, "UN", value)


def told(ds: Dataset) -> dict[Any, Any]:
    """Return the private values of a header, those in a sequence included: their bytes, but for what pads them."""
    found: dict[Any, Any] = {}
    for number in ds.keys():  # noqa: SIM118 - iterating a dataset decodes
        item: Any = ds.get_item(number, keep_deferred=True)
        if number == 0x00081140:
            for at, part in enumerate(ds[number].value):
                found |= {(at, key): value for key, value in told(part).items()}
        elif number.is_private:
            found[number] = [part.strip(b" \0") for part in (item.value or b"").split(b"\\")]
    return found


def written(image: xr.DataArray, folder: Path) -> list[tuple[Dataset, Dataset]]:
    """Return the headers of the sources and of the files written, by pairs."""
    files = image.dicom.write(folder, keep_private=True)
    sources = image.source.values.ravel().tolist()
    return [(pydicom.dcmread(one), pydicom.dcmread(other)) for one, other in zip(sources, files, strict=True)]


RESULTS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {"original": lambda a: a, "doubled": lambda a: a * 2}


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_values_that_are_not_of_their_vr(tmp_path: Path, syntax: Any, charset: str, result: str) -> None:
    """Of a wrong length, cut items, text in no character set: of unknown VR where pydicom writes others, or raises."""

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.SpecificCharacterSet = charset
        add_of_each_vr(ds, VALUES[t])
        item = Dataset()
        add_of_each_vr(item, VALUES[t])
        ds.ReferencedImageSequence = DicomSequence([item])

    write_series(tmp_path / "a", times=len(VALUES), slices=1, mutate=mutate, transfer_syntax=syntax)
    for source, new in written(RESULTS[result](ixr.open_series(tmp_path / "a", "time")), tmp_path / "b"):
        before = told(source)
        assert len(before) > 40
        assert told(new) == before


def whole_elements(ds: Dataset) -> dict[Any, Any]:
    """Return the private elements of a header as pydicom reads them: VR and value, those in sequences included."""
    found: dict[Any, Any] = {}
    for element in ds:
        if element.VR == "SQ":
            parts = [whole_elements(part) for part in element.value]
            if element.tag.is_private or any(parts):
                found[element.tag] = parts
        elif element.tag.is_private:
            found[element.tag] = (element.VR, b"" if element.value is None else element.value)
    return found


def nested(t: int, *, undefined: bool) -> DicomSequence:
    """Return a private sequence in a private sequence."""
    inner, outer = Dataset(), Dataset()
    block = inner.private_block(0x0029, "INNER", create=True)
    block.add_new(0x01, "LO", f"inner {t}")
    block.add_new(0x02, "OB", bytes(range(2 * t)))
    outer.private_block(0x0031, "OUTER", create=True).add_new(0x01, "SQ", DicomSequence([inner, Dataset()]))
    outer.CodeMeaning = "code"
    for part in (inner, outer):
        part.is_undefined_length_sequence_item = undefined
    outer[0x00311001].is_undefined_length = undefined
    return DicomSequence([outer] * (t % 3))


def vary(ds: Dataset, t: int, z: int, *, undefined: bool) -> None:
    """Let creators differ from frame to frame, be there twice, and have no elements; nest sequences."""
    for group, creator in ((0x0019, f"MAKER {(t + z) % 3}"), (0x0019, "TWICE"), (0x0021, "TWICE")):
        ds.private_block(group, creator, create=True).add_new(0x10, "LO", f"{creator} {t}")
    ds.add_new(0x001900F0, "LO", "TWICE")  # the same creator once more, in a block of its own
    ds.add_new(0x0019F010, "FD", [t + 0.5, z])
    ds.add_new(0x001900F1, "LO", "NOTHING")
    ds.add_new(0x001900F2, "LO", "")
    ds.add_new(0x0019F210, "UL", 70_000 + t)
    ds.add_new(0x0029A010, "UN", bytes(range(100 + 2 * t)))  # no one's
    for group in (0x0033, 0x0035):
        ds.add_new(group << 16 | 0x10, "LO", "NESTED")
        ds.add_new(group << 16 | 0x1001, "SQ", nested(t, undefined=undefined))
        ds[group << 16 | 0x1001].is_undefined_length = undefined
    item = Dataset()
    vary_item = item.private_block(0x0019, f"MAKER {t % 2}", create=True)
    vary_item.add_new(0x01, "DS", "1.50")
    ds.ReferencedImageSequence = DicomSequence([item])


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_no_private_element_is_lost(tmp_path: Path, syntax: Any, undefined: bool, result: str) -> None:
    def mutate(ds: Dataset, t: int, z: int) -> None:
        vary(ds, t, z, undefined=undefined)

    write_series(tmp_path / "a", times=6, slices=3, mutate=mutate, transfer_syntax=syntax)
    for source, new in written(RESULTS[result](ixr.open_series(tmp_path / "a", "time")), tmp_path / "b"):
        before = whole_elements(source)
        assert len(before) > 15
        assert whole_elements(new) == before


@pytest.mark.parametrize("first_is_wrong", [True, False])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_frames_alike_but_for_wrong_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: Any, first_is_wrong: bool
) -> None:
    """Patched files have the bytes of those that are written element by element."""

    def mutate(ds: Dataset, t: int, z: int) -> None:
        is_wrong = (t + z) % 5 == (0 if first_is_wrong else 4)
        ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        ds.add_new(0x00191028, "UN", b"abcde " if is_wrong else np.float64(t).tobytes())  # an FD
        item = Dataset()
        item.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        item.add_new(0x00191028, "UN", b"xy" if is_wrong else np.float64(z).tobytes())
        ds.ReferencedImageSequence = DicomSequence([item])

    write_series(tmp_path / "a", times=6, slices=8, mutate=mutate, transfer_syntax=syntax)
    image = ixr.open_series(tmp_path / "a", "time")
    assert both_ways(image, tmp_path, monkeypatch) > 0
    for name in ("patched", "whole"):
        for source, file in zip(image.source.values.ravel().tolist(), sorted((tmp_path / name).iterdir()), strict=True):
            assert told(pydicom.dcmread(file)) == told(pydicom.dcmread(source))
    new = [pydicom.dcmread(file).get_item(0x00191028) for file in sorted((tmp_path / "patched").iterdir())]
    kinds = {(item.VR, len(item.value)) for item in new}
    assert kinds == {("UN", 6), ("FD" if syntax == ImplicitVRLittleEndian else "UN", 8)}


PUBLIC = {
    "LO in Latin-1": (0x00081030, "LO", b"Gr\xf6\xdfe %d "),
    "PN in Latin-1": (0x00081050, "PN", b"M\xfcller^J\xff%d"),
    "LT cut in a letter": (0x00204000, "LT", b"abc\xc3%d\xc3"),
    "SH with an escape": (0x00200010, "SH", b"\x1b$Bx\xff%d"),
}
NUMBERS = {
    "US of 3 bytes": (0x00280010, b"a%d\x01"),
    "FD of 6 bytes": (0x00189087, b"abcde%d"),
    "AT of 6 bytes": (0x00720026, b"abcde%d"),
    "sequence cut short": (0x00081115, b"\xfe\xff\x00\xe0\x20\0\0\0ab%d "),
}


def put_bytes(folder: Path, stands_for: dict[bytes, bytes]) -> None:
    """Put bytes that pydicom would not write in the place of others, in all files of a folder."""
    for file in folder.iterdir():
        data = file.read_bytes()
        for before, after in stands_for.items():
            data = data.replace(before, after)
        file.write_bytes(data)


def public(path: str | Path, number: int, *, in_sequence: bool) -> tuple[str | None, bytes]:
    """Return VR and value of an element as they are in a file."""
    ds = pydicom.dcmread(path)
    item: Any = (ds.ReferencedImageSequence[0] if in_sequence else ds).get_item(number, keep_deferred=True)
    return item.VR, item.value.strip(b" \0")


def write_texts(folder: Path, number: int, vr: str, value: bytes, syntax: Any, *, in_sequence: bool) -> None:
    """Write a series in UTF-8 with other bytes in some of its frames."""
    stands_for = {}

    def mutate(ds: Dataset, t: int, z: int) -> None:
        part = Dataset() if in_sequence else ds
        text = f"{t % 2:_^{len(value) - 1}d}" if (t + z) % 3 else f"letters {t % 2}"
        stands_for[text.encode()] = value % (t % 2)
        part.add_new(number, vr, text)
        if in_sequence:
            ds.ReferencedImageSequence = DicomSequence([part])

    write_series(folder, times=4, slices=6, mutate=mutate, transfer_syntax=syntax)
    put_bytes(folder, {before: after for before, after in stands_for.items() if before.startswith(b"_")})


@pytest.mark.filterwarnings("ignore:Failed to decode byte string", "ignore:Found unknown escape sequence")
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("in_sequence", [False, True])
@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_public_text_that_is_none_has_the_bytes_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: Any, name: str, in_sequence: bool, result: str
) -> None:
    """pydicom writes what it shows in place of letters that it cannot read; then nobody can mend them any more."""
    number, vr, value = PUBLIC[name]
    write_texts(tmp_path / "a", number, vr, value, syntax, in_sequence=in_sequence)
    image = RESULTS[result](ixr.open_series(tmp_path / "a", "time"))
    assert both_ways(image, tmp_path, monkeypatch) > 0
    kinds = set()
    for folder in ("patched", "whole"):
        for source, file in zip(image.source.values.ravel(), sorted((tmp_path / folder).iterdir()), strict=True):
            (_, before), after = (public(path, number, in_sequence=in_sequence) for path in (source, file))
            assert after == (vr, before)
            kinds.add(before)
    assert {(value % 0).strip(), b"letters 0"} <= kinds


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("name", NUMBERS)
def test_public_values_of_a_wrong_length_are_of_unknown_vr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, result: str
) -> None:
    """In a sequence in implicit VR: pydicom raised, or wrote less than there was."""
    number, value = NUMBERS[name]

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        item = Dataset()
        item.add_new(number, "OB", value % t)
        item.is_undefined_length_sequence_item = True
        ds.ReferencedImageSequence = DicomSequence([item])
        ds["ReferencedImageSequence"].is_undefined_length = True

    write_series(tmp_path / "a", times=4, slices=6, mutate=mutate, transfer_syntax=ImplicitVRLittleEndian)
    if len(value % 0) % 2:  # pydicom has made it an even number of bytes
        wrong = [value % t for t in range(4)]
        put_bytes(tmp_path / "a", {b"\4\0\0\0" + one + b"\0": b"\3\0\0\0" + one for one in wrong})
    image = RESULTS[result](ixr.open_series(tmp_path / "a", "time"))
    assert both_ways(image, tmp_path, monkeypatch) > 0
    for folder in ("patched", "whole"):
        for source, file in zip(image.source.values.ravel(), sorted((tmp_path / folder).iterdir()), strict=True):
            assert public(file, number, in_sequence=True) == ("UN", public(source, number, in_sequence=True)[1])


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_tags_that_are_cut_are_written_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: Any, result: str
) -> None:
    """The frame as an attribute had the first tag alone, and so had the file that was written."""
    number = 0x00720026

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.add_new(number, "LO", "abcdef")

    write_series(tmp_path / "a", times=4, slices=6, mutate=mutate, transfer_syntax=syntax)
    put_bytes(tmp_path / "a", {b"\x72\x00\x26\x00LO": b"\x72\x00\x26\x00AT"})
    image = RESULTS[result](ixr.open_series(tmp_path / "a", "time"))
    assert "SelectorAttribute" not in image.attrs
    assert both_ways(image, tmp_path, monkeypatch) > 0
    for folder in ("patched", "whole"):
        for file in (tmp_path / folder).iterdir():
            kind = "UN" if syntax == ImplicitVRLittleEndian else "AT"
            assert public(file, number, in_sequence=False) == (kind, b"abcdef")


@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
def test_text_that_is_none_goes_with_its_character_set(tmp_path: Path) -> None:
    """A new text needs Unicode, in which the bytes of another set mean nothing; and what a user has set is written."""

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.SpecificCharacterSet = ["ISO 2022 IR 6", "ISO 2022 IR 87"]
        ds.StudyDescription, ds.PatientComments = "==1==", "==2=="

    write_series(tmp_path / "a", mutate=mutate)
    put_bytes(tmp_path / "a", {b"==1==": b"ab\xff\xfec", b"==2==": b"de\xff\xfef"})
    image = ixr.open_series(tmp_path / "a")
    [file, *_] = image.assign_attrs(StudyDescription="other").dicom.write(tmp_path / "b")
    ds = pydicom.dcmread(file)
    assert ds.StudyDescription == "other"
    assert ds.get_item("PatientComments").value.strip() == b"de\xff\xfef"
    [file, *_] = image.assign_attrs(SeriesDescription="άθροισμα").dicom.write(tmp_path / "c")
    ds = pydicom.dcmread(file)
    assert (ds.SpecificCharacterSet, ds.SeriesDescription) == ("ISO_IR 192", "άθροισμα")
    ds.get_item("PatientComments").value.decode("utf-8")


def test_words_in_big_endian(tmp_path: Path) -> None:
    """pydicom gives words as bytes, and leaves them in the order that they had."""
    words, numbers = np.arange(300, 306), np.linspace(-1, 1, 4)

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        def add(part: Dataset) -> None:
            block = part.private_block(0x0029, "MAKER", create=True)
            block.add_new(0x01, "OW", words.astype(">u2").tobytes())
            block.add_new(0x02, "OL", words.astype(">u4").tobytes())
            block.add_new(0x03, "OF", numbers.astype(">f4").tobytes())
            block.add_new(0x04, "OD", numbers.astype(">f8").tobytes())
            block.add_new(0x05, "OB", bytes(range(6)))
            block.add_new(0x06, "US", [1, 2])

        add(ds)
        item = Dataset()
        add(item)
        ds.ReferencedImageSequence = DicomSequence([item])

    write_series(tmp_path / "a", slices=3, mutate=mutate, transfer_syntax=ExplicitVRBigEndian)
    for _, new in written(ixr.open_series(tmp_path / "a"), tmp_path / "b"):
        for part in (new, new.ReferencedImageSequence[0]):
            block = part.private_block(0x0029, "MAKER")
            kinds = {0x01: "<u2", 0x02: "<u4", 0x03: "<f4", 0x04: "<f8"}
            for number, kind in kinds.items():
                wanted = words if kind[1] == "u" else numbers
                np.testing.assert_allclose(np.frombuffer(block[number].value, kind), wanted, rtol=1e-6)
            assert block[0x05].value == bytes(range(6))
            assert list(block[0x06].value) == [1, 2]


def test_overlays_in_big_endian(tmp_path: Path) -> None:
    bits = np.zeros((8, 6), bool)
    bits[1, 2:5], bits[6, 0] = True, True

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        data = np.packbits(bits.ravel(), bitorder="little")
        add_overlay(ds)
        ds.add_new(0x60003000, "OW", data.view("<u2").byteswap().tobytes())

    write_series(tmp_path / "a", slices=3, mutate=mutate, transfer_syntax=ExplicitVRBigEndian)
    image = ixr.open_series(tmp_path / "a")
    np.testing.assert_array_equal(image.dicom.overlays(slice=1).values[0], bits)
    image.dicom.write(tmp_path / "b")
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "b").dicom.overlays(slice=1).values[0], bits)


def test_text_that_needs_another_character_set(tmp_path: Path) -> None:
    """All texts are encoded anew where the user's have letters that the set lacks; what is no text stays as it is."""

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        ds.add_new(0x00191028, "UN", b"abcde ")
        ds.private_block(0x0029, "MAKER", create=True).add_new(0x01, "LO", "Größe")

    write_series(tmp_path / "a", times=2, slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path / "a", "time").assign_attrs(SeriesDescription="άθροισμα")
    for _, new in written(image, tmp_path / "b"):
        assert new.SeriesDescription == "άθροισμα"
        assert new.private_block(0x0029, "MAKER")[0x01].value == "Größe"
        assert new.get_item(0x00191028).value == b"abcde "
