"""``image_data validate``: what it complains of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.uid import RLELossless

from imagedata_xr.cli import main
from tests.generate import write_series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def complaints(capsys: pytest.CaptureFixture[str], *sources: Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["validate", "--json", *map(str, sources)])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, document


def test_missing_frames_and_uneven_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heap = tmp_path / "heap"
    write_series(heap / "a", times=3, slices=2, series="a", number=1)
    write_series(heap / "b", slices=3, series="b", number=2)
    write_series(heap / "c", slices=2, patient="P2", study="other", series="c", number=3)
    assert main(["validate", str(heap)]) == 0
    assert "no complaints" in capsys.readouterr().out
    next(f for f in (heap / "a").iterdir() if pydicom.dcmread(f).InstanceNumber == 4).unlink()
    status, document = complaints(capsys, heap)
    assert status == 5
    assert [bool(entry["errors"]) for entry in document["series"]] == [True, False, False]
    write_series(heap / "d", gaps=[3, 3, 6], series="d", number=4)
    assert main(["validate", str(heap / "d")]) == 0
    assert "4 slices at uneven distances, 3 to 6 mm" in capsys.readouterr().out


def test_every_damaged_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_series(tmp_path / "in", slices=4)
    whole = files[0].read_bytes()
    (tmp_path / "in" / "short").write_bytes(whole[:-20])
    (tmp_path / "in" / "head").write_bytes(whole[:700])
    status, document = complaints(capsys, tmp_path / "in")
    assert status == 5
    assert [entry["frames"] for entry in document["series"]] == [4]
    assert sorted(Path(entry["file"]).name for entry in document["damaged"]) == ["head", "short"]
    assert main(["validate", str(tmp_path / "in")]) == 5
    told = capsys.readouterr()
    assert "short: is cut short" in told.out
    assert "no complaints" in told.out
    assert told.err == ""
    assert main(["validate", str(tmp_path / "in" / "short")]) == 4
    (tmp_path / "text").write_text("no DICOM")
    assert main(["validate", str(tmp_path / "text")]) == 3


def test_pixels_that_cannot_be_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_series(tmp_path / "in", slices=3, rows=32, cols=32, transfer_syntax=RLELossless)
    assert main(["validate", str(tmp_path / "in")]) == 0
    data = bytearray(files[1].read_bytes())
    data[-300:-200] = b"\x7f" * 100
    files[1].write_bytes(data)
    status, document = complaints(capsys, tmp_path / "in")
    assert status == 4
    (error,) = document["series"][0]["errors"]
    assert error.startswith("1 of 3 frames cannot be decoded")
    assert files[1].name in error


@pytest.mark.parametrize(
    ("elements", "kind", "complaint"),
    [
        ({"SliceThickness": b"x.0 "}, "warnings", "SliceThickness is no number"),
        ({"RescaleSlope": b"0 ", "RescaleIntercept": b"0 "}, "errors", "RescaleSlope is "),
        ({"PixelSpacing": b"-1\\1"}, "errors", "PixelSpacing is "),
        ({"EchoNumbers": b"1\\\\2 "}, "", ""),
    ],
)
def test_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], elements: dict[str, bytes], kind: str, complaint: str
) -> None:
    def mutate(ds: Dataset, *_: int) -> None:
        for name, value in elements.items():
            number = pydicom.tag.Tag(name)
            ds[number] = RawDataElement(number, dictionary_VR(number), len(value), value, 0, False, True)

    write_series(tmp_path / "in", slices=3, mutate=mutate)
    found = complaints(capsys, tmp_path / "in")[1]["series"][0]
    assert sorted(kind for kind in ("errors", "warnings") if found[kind]) == [kind] * bool(kind)
    assert not kind or found[kind][0].startswith(complaint)


def test_a_place_that_cannot_be_hides_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.ImageOrientationPatient, ds.Modality = [1, 0, 0, 1, 0, 0], "MR" if z else "CT"

    write_series(tmp_path / "in", slices=3, mutate=mutate)
    errors = complaints(capsys, tmp_path / "in")[1]["series"][0]["errors"]
    assert errors[0] == "2 different Modality in one series"
    assert "are not perpendicular" in errors[1]


def test_two_modalities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in", mutate=lambda ds, _, z: setattr(ds, "Modality", "MR" if z % 2 else "CT"))
    status, document = complaints(capsys, tmp_path / "in")
    assert status == 4
    assert document["series"][0]["errors"] == ["2 different Modality in one series"]
