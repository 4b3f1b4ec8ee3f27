"""Archives and URLs: read in place, only as far as needed, and no name in one is a path."""

from __future__ import annotations

import pickle
import shutil
import tarfile
import tempfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr import streams
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from tests.dicom.multi import write_enhanced
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "series", times=3)
    return tmp_path / "series"


def packed(folder: Path, archive: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", compression) as made:
        for number, file in enumerate(sorted(folder.rglob("*"))):
            made.write(file, f"../../deep/{number % 3}/IMAGE{number}")
        made.writestr("deep/readme.txt", "no image")
        made.writestr("deep/empty/", "")
    return archive


def taped(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as made:
        for file in sorted(folder.rglob("*")):
            made.add(file, f"/etc/{file.name}")
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    return archive


@pytest.mark.parametrize("name", ["a.zip", "stored.ZIP", "a.tar", "a.tar.gz", "a.tgz"])
def test_an_archive_opens_as_a_folder(tmp_path: Path, series: Path, name: str) -> None:
    archive = tmp_path / name
    if "zip" in name.lower():
        packed(series, archive, zipfile.ZIP_STORED if "stored" in name else zipfile.ZIP_DEFLATED)
    else:
        taped(series, archive)
    before = sorted(tmp_path.rglob("*"))
    image, folder = ixr.open_series(archive, "time"), ixr.open_series(series, "time")
    assert np.array_equal(image.values, folder.values)
    assert image.dicom.geometry_equal(folder)
    header = image.dicom.header(time=1, slice=2)
    assert header.SOPInstanceUID == folder.dicom.header(time=1, slice=2).SOPInstanceUID
    assert sorted(tmp_path.rglob("*")) == before, "no member left its folder"
    assert len(ixr.scan([archive])) == 1
    kind = "zip" if "zip" in name.lower() else "tar"
    assert str(image.source.values.flat[0]).startswith(f"{kind}://")
    assert np.array_equal(pickle.loads(pickle.dumps(image)).values, folder.values)
    with ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(lambda k: ixr.open_series(archive, "time")[k % 3, k % 3].values, range(12)))
    assert all(np.array_equal(f, folder[k % 3, k % 3].values) for k, f in enumerate(frames))
    (image * 2).dicom.write(tmp_path / "out")
    assert np.array_equal(ixr.open_series(tmp_path / "out", "time").values, 2 * folder.values)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_file_of_many_frames_in_an_archive(tmp_path: Path, name: str) -> None:
    file = write_enhanced(tmp_path / "series" / "enhanced", times=2, slices=3)
    archive = (packed if name.endswith("zip") else taped)(tmp_path / "series", tmp_path / name)
    image = ixr.open_series(archive, "time")
    assert np.array_equal(image, ixr.open_series(file, "time"))
    (image + 1).dicom.write(tmp_path / "out")
    assert ixr.open_series(tmp_path / "out", "time").dicom.geometry_equal(image)


def test_a_pattern_chooses_members(tmp_path: Path, series: Path, memory: MemoryFileSystem) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for file in series.rglob("*"):
            made.write(file, f"one/{file.name}")
            made.writestr(f"two/x/{file.name}.txt", "text")
    image = ixr.open_series(f"{tmp_path}/a.zip?one/*", "time")
    assert image.sizes["time"] == 3
    assert ixr.open_series(f"{tmp_path}/a.zip?one", "time").sizes["time"] == 3
    with pytest.raises(NoDicomError):
        ixr.open_series(f"{tmp_path}/a.zip?two")
    with pytest.raises(FileNotFoundError, match=r"nothing in .*a\.zip is named 'three\*'; there are"):
        ixr.open_series(f"{tmp_path}/a.zip?three*")
    with pytest.raises(FileNotFoundError):
        ixr.open_series(f"{tmp_path}/b.zip?three*")
    # As fsspec writes it, and as the coordinate `source` does.
    for within in ("one", "one/*", image.source.values[0, 0].partition("://")[2].partition("::")[0]):
        source = f"zip://{within}::{tmp_path}/a.zip"
        assert ixr.open_series(source, "time").sizes["time"] == (1 if within[-1] not in "e*" else 3)
    memory.pipe("/a.zip", (tmp_path / "a.zip").read_bytes())
    assert ixr.open_series("zip://one/*::memory://a.zip", "time").sizes["time"] == 3
    with pytest.raises(
        FileNotFoundError, match=r"no member 'one', or not any more; a folder in it is 'memory.*zip\?one'"
    ):
        ixr.open_series("zip://one::memory://a.zip")
    with pytest.raises(FileNotFoundError, match=r"nothing in .*a\.zip is named 'three'; there are"):
        ixr.open_series(f"zip://three::{tmp_path}/a.zip")
    with pytest.raises(FileNotFoundError, match=r"a\.zip is a file; what is in it is named '.*a\.zip\?one'"):
        ixr.open_series(f"{tmp_path}/a.zip/one")


def test_damaged_and_empty_archives(tmp_path: Path, series: Path) -> None:
    archive = packed(series, tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    data[200:260] = bytes(60)
    archive.write_bytes(data)
    with pytest.raises(UnreadableFileError, match="cannot unpack"):
        ixr.open_series(archive).load()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as empty:
        empty.writestr("text", "no image")
    with pytest.raises(NoDicomError, match="none of them a DICOM image"):
        ixr.open_series(tmp_path / "b.zip")
    (tmp_path / "cut.zip").write_bytes(packed(series, tmp_path / "e.zip").read_bytes()[:-100])
    for function in (ixr.open_series, ixr.open_study, ixr.scan):
        with pytest.raises(UnreadableFileError, match=r"cut\.zip has the name of a zip archive, and is none, or"):
            function(tmp_path / "cut.zip")
    shutil.copy(next(series.rglob("*")), tmp_path / "dicom.zip")
    assert ixr.open_series(tmp_path / "dicom.zip").sizes["slice"] == 1, "a DICOM file may have any name"
    good = taped(series, tmp_path / "c.tar.gz").read_bytes()
    (tmp_path / "d.tar.gz").write_bytes(good[: len(good) // 2])
    with pytest.raises(UnreadableFileError, match=r"cannot unpack .*d\.tar\.gz"):
        ixr.open_series(tmp_path / "d.tar.gz")


def test_of_an_archive_that_cannot_be_unpacked_nothing_is_left(
    tmp_path: Path, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = taped(series, tmp_path / "a.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-100])
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    for _ in range(2):
        with pytest.raises(UnreadableFileError, match="cannot unpack"):
            ixr.open_series(archive)
    assert not list(room.iterdir())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_from_any_place(tmp_path: Path, compression: int) -> None:
    """Of stored ones some versions of Python give the bytes of another place."""
    random = np.random.default_rng(4)
    contents = [random.bytes(200_000), random.bytes(70_001)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as made:
        for number, content in enumerate(contents):
            made.writestr(str(number), content)
    for content, path in zip(contents, streams.list_source(str(tmp_path / "a.zip")) or [], strict=True):
        with streams.open_binary(path) as file:
            for _ in range(300):
                place, count = (int(n) for n in random.integers(0, [len(content) + 10, 30_000]))
                assert file.seek(place) <= place
                assert file.read(count) == content[place : place + count]
            file.seek(0, 2)
            assert (file.tell(), file.read(3)) == (len(content), b"")
            file.seek(-5, 1)
            assert file.read() == content[-5:]


def test_an_archive_that_changed_is_noticed(tmp_path: Path, series: Path) -> None:
    archive = packed(series, tmp_path / "a.zip")
    image = ixr.open_series(archive, "time")
    write_series(tmp_path / "other", times=3, rows=7)
    packed(tmp_path / "other", archive)
    with pytest.raises(UnreadableFileError, match="has changed since it was opened"):
        image.load()


def test_urls(tmp_path: Path, series: Path, memory: MemoryFileSystem) -> None:
    folder = ixr.open_series(series, "time")
    for file in series.rglob("*"):
        memory.pipe(f"/bucket/{file.name}", file.read_bytes())
    memory.pipe("/zipped/a.zip", packed(series, tmp_path / "a.zip").read_bytes())
    urls = [f"memory://bucket/{file.name}" for file in series.rglob("*")]
    for source in ("memory://bucket", "memory://zipped/a.zip", urls, f"file://{series}", f"file://{tmp_path}/a.zip"):
        image = ixr.open_series(source, "time")
        assert np.array_equal(image.values, folder.values)
        assert image.dicom.header(time=2, slice=0).PatientID == folder.attrs["PatientID"]
    ixr.write(folder, tmp_path / "a.nii.gz")
    for name in ("a.nii.gz", "a.json"):
        memory.pipe(f"/nifti/{name}", (tmp_path / name).read_bytes())
    image = ixr.open_series("memory://nifti", template=folder)
    assert np.array_equal(image.values, folder.values)
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        ixr.open_series("memory://nowhere")
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: 'file:///no/where'$"):
        ixr.open_series("file:///no/where")
    with pytest.raises(FileNotFoundError, match="'file://study/ct'; a URL of a file has a whole path, file:///"):
        ixr.open_series("file://study/ct")


def test_passwords_are_not_taken_in_urls() -> None:
    for url in ("https://me:secret@host/a.zip", "s3://key:secret@bucket/x", "ftp://me@host/x"):
        with pytest.raises(ValueError, match="configure fsspec") as caught:
            streams.list_source(url)
        assert "secret" not in str(caught.value)


def test_members_of_one_name_are_both_read(tmp_path: Path, series: Path) -> None:
    files = sorted(series.rglob("*"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Duplicate name
        for file in files:
            made.write(file, "IMAGE")
    assert ixr.open_series(tmp_path / "a.zip", "time").sizes["time"] == 3


def test_statuses_of_many_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("b", b"12345")
    here, member = str(tmp_path / "a"), f"zip://b::{tmp_path / 'z.zip'}"
    sizes, versions = streams.statuses([here, str(tmp_path / "gone"), member])
    assert sizes == [3, -1, 5]
    assert versions == [streams.status(here).version, -1, streams.status(member).version]
