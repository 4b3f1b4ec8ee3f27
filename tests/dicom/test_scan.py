"""A scan finds every image of a heap, passes over what is none, and names what is damaged."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

import imagedata_xr as ixr
from imagedata_xr.dicom.scan import list_files, scan
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from tests.conftest import drop_rights
from tests.generate import save, write_series

SYNTAXES = [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]


def frames(source: object) -> int:
    return sum(map(len, scan(source).values()))  # type: ignore[arg-type]


def test_heap_of_everything(tmp_path: Path) -> None:
    """Images in folders of any depth and name are found; text, DICOMDIR, reports and empty files are passed over."""
    files = write_series(tmp_path / "a" / "ünïcode Ω" / ".hidden", slices=3)
    write_series(tmp_path / "b", slices=2, series="other", suffix=".with.dots .DCM")
    names = ["no name", "'; rm -rf *", "new\nline", "-rf", "日本.dcm", "x" * 200]
    for name, file in zip(names, [*files, *files], strict=True):
        shutil.copy(file, tmp_path / "b" / name)
    (tmp_path / "b" / "empty").touch()
    (tmp_path / "b" / "readme.dcm").write_text("DICM is a magic word")
    (tmp_path / "b" / "nearly").write_bytes(bytes(128) + b"DICN" + bytes(500))
    (tmp_path / "b" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    (tmp_path / "c" / "deeper").mkdir(parents=True)
    report = pydicom.dcmread(files[0])
    for name in ("PixelData", "Rows", "Columns"):
        del report[name]
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    report.save_as(tmp_path / "c" / "deeper" / "report")
    directory = Dataset()
    directory.SOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    directory.SOPInstanceUID = pydicom.uid.generate_uid()
    directory.DirectoryRecordSequence = [report]
    save(directory, tmp_path / "c" / "DICOMDIR")
    tables = scan(tmp_path)
    assert sorted(map(len, tables.values())) == [2, 3 + 6]
    assert frames(tmp_path / "b") == 2 + 6


def test_columns(tmp_path: Path) -> None:
    files = write_series(tmp_path, times=2, slices=2)
    (table,) = scan(tmp_path).values()
    assert sorted(table.paths) == sorted(map(str, files))
    assert table.value("Modality") == "MR"
    assert table.values("Modality") == ["MR"] * 4
    assert table.value("InstanceNumber") is None, "it varies"
    assert sorted(table.values("InstanceNumber")) == [1, 2, 3, 4]  # type: ignore[type-var]
    assert table.values("PatientWeight") == [None] * 4
    part = table.take([2, 0])
    assert part.paths == [table.paths[2], table.paths[0]]
    assert part.values("InstanceNumber") == [table.values("InstanceNumber")[k] for k in (2, 0)]
    assert part.take([1]).value("InstanceNumber") == table.values("InstanceNumber")[0]
    assert (table.sizes == [Path(p).stat().st_size for p in table.paths]).all()


def test_element_absent_in_some_frames(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z == 1:
            ds.PatientWeight = 70
        if z == 2:
            del ds.EchoTime

    write_series(tmp_path, slices=3, mutate=mutate)
    (table,) = scan(tmp_path).values()
    order = np.argsort(table.values("InstanceNumber"))
    assert [table.values("PatientWeight")[k] for k in order] == [None, 70.0, None]
    assert [table.values("EchoTime")[k] for k in order] == [5.0, 5.0, None]


def test_files_lists_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path / "a", slices=3)
    write_series(tmp_path / "b", slices=2, series="other")
    assert frames(files[0]) == 1
    assert frames(files[:2]) == 2
    assert frames([str(tmp_path / "a"), tmp_path / "b"]) == 5
    assert frames([tmp_path / "b", files[1]]) == 3
    monkeypatch.chdir(tmp_path)
    assert frames("a") == 3
    assert all(os.path.isabs(p) for p in list_files("a"))  # noqa: PTH117 - of strings


def test_a_file_given_twice_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path / "a", slices=3)
    monkeypatch.chdir(tmp_path)
    assert frames([tmp_path / "a", files[0], files[0], "a", "./a/../a", Path("a") / files[1].name]) == 3


@pytest.mark.parametrize("name", ["missing", "a/missing"])
def test_missing_path(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "a", slices=1)
    with pytest.raises(FileNotFoundError, match="missing"):
        scan(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing"):
        scan([tmp_path / "a", tmp_path / name])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NoDicomError, match="no files"):
        scan(tmp_path)
    (tmp_path / "text").write_text("text")
    (tmp_path / "more").write_text("text")
    with pytest.raises(NoDicomError, match="2 files, none of them a DICOM image"):
        scan(tmp_path)
    with pytest.raises(NoDicomError, match="the list of sources is empty"):
        scan([])


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("part", [0.15, 0.4, 0.6, 0.8, 0.97])
def test_truncated_in_the_header(tmp_path: Path, syntax: pydicom.uid.UID | None, part: float) -> None:
    files = write_series(tmp_path, slices=3, **({} if syntax is None else {"transfer_syntax": syntax}))
    whole = files[1].read_bytes()
    header = len(whole) - 2 * 8 * 6 if syntax not in (RLELossless, DeflatedExplicitVRLittleEndian) else len(whole) - 200
    files[1].write_bytes(whole[: max(250, int(header * part))])
    with pytest.raises(UnreadableFileError, match=files[1].name):
        scan(tmp_path)
    with pytest.warns(UserWarning, match=f"left out.*{files[1].name}") as caught:
        assert sum(map(len, scan(tmp_path, errors="warn").values())) == 2
    assert len(caught) == 1


def test_truncated_at_any_byte_is_never_passed_over(tmp_path: Path) -> None:
    """A file cut anywhere is named, or (before its identity) is no DICOM image; it is never silently no image."""
    (file,) = write_series(tmp_path, slices=1)
    whole = file.read_bytes()
    for end in [*range(400, len(whole) - 1, 7), len(whole) - 1]:
        file.write_bytes(whole[:end])
        with pytest.raises(UnreadableFileError, match=file.name):
            scan(tmp_path)


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_truncated_in_the_pixels(tmp_path: Path, syntax: pydicom.uid.UID | None) -> None:
    files = write_series(tmp_path, slices=3, **({} if syntax is None else {"transfer_syntax": syntax}))
    with files[0].open("r+b") as file:
        file.truncate(files[0].stat().st_size - 5)
    with pytest.raises(UnreadableFileError, match=f"{files[0].name} is cut short: its pixel data need 96 bytes"):
        ixr.open_series(tmp_path, "none")
    with pytest.warns(UserWarning, match=files[0].name):
        assert ixr.open_series(tmp_path, "none", errors="warn").sizes["slice"] == 2


@pytest.mark.parametrize("size", [100, 1500, 100_000])
def test_a_file_of_zeros_is_damaged(tmp_path: Path, size: int) -> None:
    """A copy that was not finished; taken for a file of another kind, the last slice lacked in silence."""
    files = write_series(tmp_path, slices=3)
    files[2].write_bytes(bytes(size))
    with pytest.raises(UnreadableFileError, match=f"{files[2].name} holds nothing but zeros"):
        scan(tmp_path)
    with pytest.warns(UserWarning, match=f"left out: .*{files[2].name} holds nothing but zeros"):
        assert sum(map(len, scan(tmp_path, errors="warn").values())) == 2


@pytest.mark.parametrize("name", ["3.dcm", "1.2.840.3", "IM3.IMA"])
def test_an_empty_file_named_as_an_image_is_damaged(tmp_path: Path, name: str) -> None:
    """A full disk leaves such; the last slice lacked in silence."""
    write_series(tmp_path, slices=2)
    (tmp_path / name).touch()
    with pytest.raises(UnreadableFileError, match=f"{name} is empty"):
        scan(tmp_path)


def test_files_that_begin_with_zeros_or_are_empty_are_of_other_kinds(tmp_path: Path) -> None:
    write_series(tmp_path, slices=2)
    (tmp_path / "volume.raw").write_bytes(bytes(100_000) + b"1")
    (tmp_path / "mask.img").write_bytes(bytes(4096))
    (tmp_path / "done").touch()
    assert sum(map(len, scan(tmp_path).values())) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_file_that_may_not_be_read(not_root: Path) -> None:
    files = write_series(not_root / "a", slices=2)
    files[1].chmod(0)
    drop_rights()
    with pytest.raises(UnreadableFileError, match=f"cannot read .*{files[1].name}: Permission denied"):
        scan(not_root)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_folder_that_may_not_be_read(not_root: Path) -> None:
    """It may hold half of the series."""
    write_series(not_root / "a", slices=2)
    write_series(not_root / "b", slices=2, origin=(0, 0, 99))
    (not_root / "b").chmod(0)
    drop_rights()
    with pytest.raises(OSError, match="b"):
        scan(not_root)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_may_not_be_read_is_left_out_on_request(not_root: Path) -> None:
    write_series(not_root / "a", slices=2)
    (not_root / "b").mkdir(mode=0)
    drop_rights()
    with pytest.warns(UserWarning, match="left out: cannot read .*b: Permission denied"):
        image = ixr.open_series(not_root, "none", errors="warn")
    assert image.sizes["slice"] == 2


def test_what_is_no_path_is_refused() -> None:
    for source in (None, 5):
        with pytest.raises(TypeError, match=f"the source is {source}: the path of a folder"):
            ixr.open_series(source)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, slices=1)
    file.rename(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.dcm"))
    assert frames(tmp_path) == 1
    with pytest.raises(UnreadableFileError, match=r"M\\udcfcller.dcm' is no text in UTF-8, .*rename"):
        ixr.open_series(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_links_loops_and_pipes(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a", slices=2)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to(files[0])
    with pytest.raises(UnreadableFileError, match="self"):
        scan(tmp_path / "a")
    (tmp_path / "a" / "self").unlink()
    assert frames(tmp_path / "a") == 2
    assert frames(tmp_path / "b") == 1
    (tmp_path / "b" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnreadableFileError, match=r"b/gone: it is a link, and .*nowhere is not there$"):
        scan(tmp_path / "b")


def test_a_file_that_is_there_directly_and_through_links_is_read_once(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a", slices=2)
    (tmp_path / "link").symlink_to(files[0])
    (tmp_path / "other").symlink_to(tmp_path / "link")
    (tmp_path / "folder").symlink_to(tmp_path / "a")
    a, link, folder = tmp_path / "a", tmp_path / "link", tmp_path / "folder"
    for source in ([link, a], [folder, a], [link, folder], [folder / files[0].name, a], [a, link, tmp_path / "other"]):
        assert frames(source) == 2
    assert frames([link, tmp_path / "other"]) == 1
    assert list_files([link, folder, a]) == sorted(map(str, files))  # without one, the files themselves stay
    (a / "link").symlink_to(files[1])
    assert frames(a) == 2


def test_many_files_of_one_folder(tmp_path: Path) -> None:
    write_series(tmp_path, times=50, slices=4, rows=2, cols=2)
    (table,) = scan(tmp_path).values()
    assert len(table) == 200


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg=山田^太郎"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Люкceмбypг"),  # noqa: RUF001 - Cyrillic it is
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_other_letters(tmp_path: Path, character_set: str | list[str], name: str) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.SpecificCharacterSet = character_set
        ds.PatientName = name

    write_series(tmp_path, slices=2, mutate=mutate)
    image = ixr.open_series(tmp_path, "none")
    assert image.attrs["PatientName"] == name
    assert str(image.dicom.header(slice=0).PatientName) == name


def test_character_sets_that_differ_between_frames(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.SpecificCharacterSet = ["ISO_IR 100", "ISO_IR 192"][z]
        ds.PatientName = "Jörg"

    write_series(tmp_path, slices=2, mutate=mutate)
    (table,) = scan(tmp_path).values()
    assert table.values("PatientName") == ["Jörg", "Jörg"]


def test_odd_values(tmp_path: Path) -> None:
    """What is written against the rules is read as far as it says something, and never stops an image from opening."""

    odd = {
        "PatientWeight": b"70,5",
        "PatientSize": b"nan ",
        "RepetitionTime": b"  100 \0",
        "EchoNumbers": b"1.0 ",
        "NumberOfAverages": b"",
        "EchoTrainLength": b"2.5 ",
        "ProtocolName": b"with nul\0\0",
        "WindowCenter": b"10\\\\30",
    }
    (file,) = write_series(tmp_path, slices=1, tags=dict.fromkeys(odd, "1"))
    data = file.read_bytes()
    for name, value in odd.items():
        element = pydicom.DataElement(name, pydicom.datadict.dictionary_VR(name), "")
        start = struct.pack("<HH2s", element.tag.group, element.tag.element, element.VR.encode())
        at = data.index(start)
        stop = at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")
        data = data[:at] + start + struct.pack("<H", len(value)) + value + data[stop:]
    file.write_bytes(data)
    (table,) = scan(file).values()
    assert table.value("PatientWeight") == "70,5"
    assert str(table.value("PatientSize")) == "nan"
    assert table.value("RepetitionTime") == 100.0
    assert table.value("EchoNumbers") == 1
    assert table.value("NumberOfAverages") == ""
    assert table.value("EchoTrainLength") == 2.5, "pydicom says so too"
    assert table.value("ProtocolName") == "with nul"
    image = ixr.open_series(file, "none")
    assert image.dicom.header().ProtocolName == "with nul"
    image.drop_encoding().to_dataset().to_netcdf(tmp_path / "image.nc")


def test_errors_keyword(tmp_path: Path) -> None:
    write_series(tmp_path, slices=1)
    with pytest.raises(ValueError, match="errors='skip': it is 'raise' or 'warn'"):
        scan(tmp_path, errors="skip")  # type: ignore[arg-type]


def test_saved_without_sop_class(tmp_path: Path) -> None:
    """A file of another kind that pydicom would read with force is passed over."""
    (tmp_path / "text").write_text("\x08\x00\x05\x00CS\n\x00ISO_IR 100" + " " * 300)
    files = write_series(tmp_path / "a", slices=1)
    assert frames(tmp_path) == 1
    ds = pydicom.dcmread(files[0])
    del ds.SeriesInstanceUID
    save(ds, tmp_path / "nameless")
    assert set(scan(tmp_path / "nameless")) == {""}


def test_what_is_above_a_link_is_above_what_it_leads_to(tmp_path: Path) -> None:
    """A shell opens there what lies beside the link's target, which may be another patient's."""
    (beside,) = write_series(tmp_path / "far" / "b", slices=1)
    write_series(tmp_path / "b", slices=1, series="other")
    (tmp_path / "far" / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "a")
    (table,) = scan(tmp_path / "link" / ".." / "b").values()
    assert [Path(path).samefile(beside) for path in table.paths] == [True]


def test_a_file_that_cannot_be_asked_is_not_called_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = write_series(tmp_path / "heap", slices=1)

    def gone(path: object) -> None:
        raise OSError(errno.EIO, "Input/output error", path)

    for asked in ("stat", "lstat"):
        monkeypatch.setattr(os, asked, gone)
    with pytest.raises(OSError, match="Input/output error"):
        list_files([file])


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_archives_within_a_source_are_told(tmp_path: Path, kind: str) -> None:
    write_series(tmp_path / "inner")
    write_series(tmp_path / "heap" / "a", series="other")
    shutil.make_archive(str(tmp_path / "heap" / "inner"), "zip", tmp_path / "inner")
    source = tmp_path / "heap"
    if kind == "archive":
        source = Path(shutil.make_archive(str(tmp_path / "outer"), "zip", source))
    with pytest.warns(UserWarning, match=r"an archive is not looked into, .*inner\.zip"):
        assert len(ixr.scan(source)) == 1
    shutil.rmtree(tmp_path / "heap" / "a")
    if kind == "archive":
        source = Path(shutil.make_archive(str(tmp_path / "outer"), "zip", tmp_path / "heap"))
    with pytest.raises(NoDicomError, match=r"an archive is not looked into, .*inner\.zip"):
        ixr.open_series(source)
    # A name says little of what is in a file.
    shutil.copy(next((tmp_path / "inner").iterdir()), tmp_path / "heap" / "image.zip")
    (tmp_path / "heap" / "inner.zip").unlink()
    assert len(ixr.scan(tmp_path / "heap")) == 1
