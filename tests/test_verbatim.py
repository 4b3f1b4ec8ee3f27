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
