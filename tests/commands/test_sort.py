"""``image_data sort``: no file is lost, and no folder holds two patients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from imagedata_xr.cli import main
from imagedata_xr.commands.sort import _copy
from tests.generate import uid, write_series

SIEMENS = "1.3.12.2.1107.5.2.19.45152"
STUDIES = f"{SIEMENS}.30000024010107150012300000001", f"{SIEMENS}.30000024010109220045600000001"
SERIES = f"{SIEMENS}.2023010108150012345.0.0.0", f"{SIEMENS}.2023010109220099945.0.0.0"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return an image to make others of."""
    write_series(tmp_path / "one", slices=1)
    return next((tmp_path / "one").iterdir())


def change(file: Path, target: Path, **elements: object) -> Path:
    """Write a file with other elements."""
    ds = pydicom.dcmread(file)
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(target.name)
    target.parent.mkdir(exist_ok=True)
    ds.save_as(target)
    return target


def report_of(file: Path, target: Path) -> Path:
    """Write a structured report of the same patient and study."""
    ds = pydicom.dcmread(file)
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(ds, name)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.88.11")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(target.name)
    ds.Modality, ds.SeriesInstanceUID = "SR", uid("reports")
    ds.save_as(target)
    return target


def sort(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["sort", "--json", *map(str, arguments)])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, document


def files_of(folder: Path) -> dict[Path, Path]:
    """Return each file below a folder, and the folder that it lies in."""
    return {path: path.parent for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"PatientID": "4711/1"}, {"PatientID": "4711_1"}),
        (
            {"PatientID": "Ä?", "SpecificCharacterSet": "ISO_IR 100"},
            {"PatientID": "Ä*", "SpecificCharacterSet": "ISO_IR 100"},
        ),
        ({"PatientID": "", "PatientName": "Alpha"}, {"PatientID": "", "PatientName": "Beta"}),
        ({"PatientID": "1", "PatientName": "Alpha"}, {"PatientID": "1", "PatientName": "Beta"}),
        ({"PatientID": "a" * 64}, {"PatientID": "a" * 63 + "b"}),
        ({"PatientID": "ab"}, {"PatientID": "AB"}),
        ({"StudyInstanceUID": STUDIES[0]}, {"StudyInstanceUID": STUDIES[1]}),
        ({"SeriesInstanceUID": SERIES[0]}, {"SeriesInstanceUID": SERIES[1]}),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_no_folder_holds_two(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    one: dict[str, str],
    other: dict[str, str],
    at_once: bool,
) -> None:
    a, b = change(file, tmp_path / "heap" / "a", **one), change(file, tmp_path / "heap" / "b", **other)
    out = tmp_path / "out"
    for given in [[a.parent]] if at_once else [[b], [a]]:
        assert sort(capsys, out, *given)[0] == 0
    found = {path.name: folder for path, folder in files_of(out).items()}
    folders = [str(found[name].relative_to(out)).lower() for name in "ab"]
    assert folders[0] != folders[1]
    assert all(len(folder.split("/")) == 3 for folder in folders)
    if "Patient" in next(iter(one)):
        assert folders[0].split("/")[0] != folders[1].split("/")[0]
    assert sort(capsys, out, b, a)[1]["kept"] == 2, "the folders are found again"
    assert len(files_of(out)) == 2


def test_one_patient_has_one_folder(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(file, tmp_path / "heap" / "a", PatientName="Doe^Jane")
    change(file, tmp_path / "heap" / "b", PatientName="Doe^Jane^^")
    assert sort(capsys, tmp_path / "out", tmp_path / "heap")[0] == 0
    assert len(set(files_of(tmp_path / "out").values())) == 1


def test_what_has_no_pixels_is_copied(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heap, out = tmp_path / "one", tmp_path / "out"
    report = report_of(file, heap / "report")
    (heap / "readme.txt").write_text("no DICOM")
    status, document = sort(capsys, out, heap)
    assert (status, document["files"], document["no_dicom"], document["failed"]) == (0, 2, 1, [])
    copies = {path.name: path for path in files_of(out)}
    assert copies["report"].read_bytes() == report.read_bytes()
    assert sort(capsys, tmp_path / "alone", report)[1]["files"] == 1
    assert main(["sort", str(tmp_path / "none"), str(heap / "readme.txt")]) == 3


def test_dicomdir_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = Path(str(get_testdata_file("DICOMDIR")))
    write_series(tmp_path / "heap", slices=1)
    shutil.copy(directory, tmp_path / "heap" / "DICOMDIR")
    shutil.copy(directory, tmp_path / "heap" / "renamed")
    status, document = sort(capsys, tmp_path / "out", tmp_path / "heap")
    assert (status, document["files"], document["no_dicom"]) == (0, 1, 2)


def test_what_is_not_copied_is_told(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heap, whole = tmp_path / "one", file.read_bytes()
    (heap / "short").write_bytes(whole[:-20])
    (heap / "head").write_bytes(whole[:700])
    (heap / "nowhere").symlink_to(tmp_path / "gone")
    status, document = sort(capsys, tmp_path / "out", heap)
    assert (status, document["files"]) == (5, 1)
    assert sorted(Path(entry["file"]).name for entry in document["failed"]) == ["head", "nowhere", "short"]
    assert all(entry["reason"] for entry in document["failed"])
    assert main(["sort", str(tmp_path / "out"), str(heap)]) == 5
    told = capsys.readouterr()
    assert "3 not copied" in told.out
    assert told.err.count("not copied: ") == 3
    file.unlink()
    assert sort(capsys, tmp_path / "none", heap)[0] == 3, "nothing was copied"
    assert not (tmp_path / "none").exists()


def test_a_copy_that_another_run_has_made_meanwhile_is_kept(file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "a.dcm"
    shutil.copy(file, target)
    assert _copy(str(file), target, set()) is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.dcm"]
    target.write_bytes(b"of another")
    assert _copy(str(file), target, set()) is True
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.dcm", "a.dcm"]


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_archives(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    heap, out = tmp_path / "heap", tmp_path / "out"
    change(file, heap / "a.dcm", InstanceNumber=1)
    (heap / "deep").mkdir()
    change(file, heap / "deep" / "a.dcm", InstanceNumber=2)
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, heap)
    status, document = sort(capsys, out, archive, "-n")
    assert (status, document["files"], document["renamed"]) == (0, 2, 1)
    assert not out.exists()
    status, document = sort(capsys, out, file.parent, archive)
    assert (status, document["files"], document["renamed"], document["failed"]) == (0, 3, 1, [])
    assert {path.name for path in files_of(out)} == {file.name, "a.dcm", "a-2.dcm"}
    contents = {path.read_bytes() for path in files_of(out)}
    assert contents == {path.read_bytes() for path in [file, heap / "a.dcm", heap / "deep" / "a.dcm"]}
    assert sort(capsys, out, archive, file.parent)[1]["kept"] == 3


def test_copies_are_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "heap", slices=2)
    heap = tmp_path / "heap"
    for out, source in [(heap, heap), (heap / "sorted", heap), (heap / "sorted", tmp_path)]:
        assert main(["sort", str(out), str(source)]) == 2
    (tmp_path / "link").symlink_to(heap)
    assert main(["sort", str(tmp_path / "link" / "sorted"), str(heap)]) == 2
    assert len(files_of(heap)) == 2
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert main(["sort", str(tmp_path / "out"), str(tmp_path / "empty")]) == 3
    assert f"found no files at '{tmp_path / 'empty'}'" in capsys.readouterr().err


def test_words_that_differ_within_a_series_make_no_folders(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heap, out = tmp_path / "heap", tmp_path / "sorted"
    change(file, heap / "a", PatientName="Doe^John", SeriesDescription="T1", StudyDate="20230101")
    change(file, heap / "b", PatientName="DOE^JOHN^^", SeriesDescription="other", StudyDate="")
    assert sort(capsys, out, heap)[0] == 0
    (folder,) = set(files_of(out).values())
    change(file, heap / "0", PatientName="doe^john", SeriesDescription="later", StudyDate="20230102")
    assert sort(capsys, out, heap)[1]["kept"] == 2
    assert {path.name for path in folder.iterdir()} == {"0", "a", "b"}


def test_files_are_sorted_and_received_to_folders(
    patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("there")
    for command in (["sort", str(tmp_path / "file"), str(patient)], ["receive", str(tmp_path / "file"), "--port", "0"]):
        assert main(command) == 6
        assert capsys.readouterr().err.count("is no folder") == 1
    assert (tmp_path / "file").read_text() == "there"
