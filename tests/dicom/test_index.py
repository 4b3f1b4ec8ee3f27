"""An index says what reading the files would say, and what has changed is read."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.dicom import index as module
from imagedata_xr.dicom import scan as scanning
from imagedata_xr.dicom.scan import scan
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from tests.conftest import SHARED, drop_rights
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagedata_xr.dicom.table import FrameTable

COLUMNS = ("sizes", "mtimes", "offsets", "lengths", "pixel_tags", "frames", "tiles")
CASES = sorted(path.name for path in SHARED.glob("*") if path.is_dir()) if SHARED.is_dir() else []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of files whose heads are read from now on."""
    paths: list[str] = []
    read_head = scanning.read_head

    def noted(path: str, *args: object) -> object:
        paths.append(path)
        return read_head(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning, "read_head", noted)
    return paths


def assert_same(found: dict[str, FrameTable], wanted: dict[str, FrameTable]) -> None:
    assert list(found) == list(wanted)
    for uid, table in wanted.items():
        other = found[uid]
        assert other.paths == table.paths
        assert other.syntaxes == table.syntaxes
        assert other.common == table.common
        assert other.varying.keys() == table.varying.keys()
        for number in table.varying:
            assert other.column(number) == table.column(number)
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(other, name), getattr(table, name), err_msg=name)
            assert getattr(other, name).dtype == getattr(table, name).dtype


@pytest.mark.filterwarnings("ignore:.*is an enhanced file without functional groups")
@pytest.mark.parametrize("case", CASES)
def test_real_series_are_the_same_with_an_index(case: str, tmp_path: Path, shared_data: Path) -> None:
    try:
        wanted = scan(shared_data / case, errors="warn")
    except NoDicomError:
        with pytest.raises(NoDicomError):
            scan(shared_data / case, index=tmp_path / "index")
        return
    for _ in range(2):
        assert_same(scan(shared_data / case, index=tmp_path / "index"), wanted)


def test_what_is_known_is_not_opened(tmp_path: Path, opened: list[str]) -> None:
    heap = tmp_path / "heap"
    write_series(heap / "a", times=3, slices=4)
    write_series(heap / "b", slices=2, series="other")
    (heap / "notes.txt").write_text("no image")
    wanted = scan(heap)
    scan(heap, index=tmp_path / "index")
    opened.clear()
    assert_same(scan(heap, index=tmp_path / "index"), wanted)
    assert_same(scan(heap / "b", index=tmp_path / "index"), scan(heap / "b"))
    image = ixr.open_series(heap / "a", "time", index=tmp_path / "index")
    assert (image.sizes["time"], image.sizes["slice"]) == (3, 4)
    tree = ixr.open_study(heap, index=tmp_path / "index")
    table = ixr.scan(heap, index=tmp_path / "index")
    assert len(tree.leaves) == len(table) == 2
    assert opened == [str(file) for file in sorted((heap / "b").iterdir())]  # by the scan without an index
    image.load()
    np.testing.assert_array_equal(image, ixr.open_series(heap / "a", "time"))


def test_changed_new_and_lost_files_are_noticed(tmp_path: Path, opened: list[str]) -> None:
    files = write_series(tmp_path / "heap", times=2, slices=3)
    scan(tmp_path / "heap", index=tmp_path / "index")
    header = pydicom.dcmread(files[1])
    header.PatientComments = "changed"
    header.save_as(files[1])
    files[2].unlink()
    shutil.copy(files[0], tmp_path / "heap" / "new.dcm")
    opened.clear()
    found = scan(tmp_path / "heap", index=tmp_path / "index")
    assert opened == sorted([str(files[1]), str(tmp_path / "heap" / "new.dcm")])
    assert_same(found, scan(tmp_path / "heap"))
    os.utime(files[3], ns=(1, 1))  # of the same size
    opened.clear()
    scan(tmp_path / "heap", index=tmp_path / "index")
    assert opened == [str(files[3])]


def test_an_index_may_lie_in_what_it_is_of(tmp_path: Path, opened: list[str]) -> None:
    write_series(tmp_path, slices=2)
    for wanted in (2, 0, 0):
        opened.clear()
        scan(tmp_path, index=tmp_path / "index")
        assert len(opened) == wanted


def test_files_beside_the_index_are_not_taken_for_it(tmp_path: Path, opened: list[str]) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name, slices=2, series=name)
    wanted = scan(tmp_path)
    for index in (tmp_path, tmp_path / "a", tmp_path / "a" / "index"):
        assert_same(scan(tmp_path, index=index), wanted)
        opened.clear()
        assert_same(scan([tmp_path / "a", tmp_path / "b"], index=index), wanted)
        assert not opened


def test_a_file_that_has_just_changed_is_not_kept_where_times_go_by_seconds(tmp_path: Path) -> None:
    """FAT, and some file servers: a file replaced in the second in which it was read would be taken for the old one."""
    (file,) = write_series(tmp_path / "heap", slices=1, patient="P1")
    index, now = tmp_path / "index", time.time_ns() // 10**9 * 10**9
    for patient in (b"P1", b"P2"):
        file.write_bytes(file.read_bytes().replace(b"P1", patient))
        os.utime(file, ns=(now, now))
        assert_same(scan(tmp_path / "heap", index=index), scan(tmp_path / "heap"))


def scan_a_growing_heap(heap: Path, index: Path) -> None:
    """Scan so often, with something new each time, that parts of the index are written as one."""
    for number in range(20):
        write_series(heap / str(number), slices=2, series=f"series {number % 3}", study=f"{number}")
        scan(heap, index=index)


def test_many_parts_become_one(tmp_path: Path, opened: list[str]) -> None:
    heap, index = tmp_path / "heap", tmp_path / "index"
    scan_a_growing_heap(heap, index)
    assert len(list(index.iterdir())) < 10
    opened.clear()
    found = scan(heap, index=index)
    assert not opened
    assert_same(found, scan(heap))


@pytest.mark.filterwarnings("ignore:the part .* of the index cannot be read")
def test_a_part_that_cannot_be_read_keeps_no_others_from_becoming_one(tmp_path: Path) -> None:
    no_part = tmp_path / "index" / f"part-{0:020d}-{0:016d}.arrow"
    no_part.mkdir(parents=True)
    scan_a_growing_heap(tmp_path / "heap", tmp_path / "index")
    assert len(list((tmp_path / "index").iterdir())) < 10
    assert no_part.exists()


def test_what_a_killed_process_has_left_goes_and_what_one_may_be_writing_stays(tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    left = {age: index / f".part-{age}.part" for age in (1, 100_000)}  # [s]
    for age, file in left.items():
        file.touch()
        os.utime(file, (time.time() - age, time.time() - age))
    scan_a_growing_heap(tmp_path / "heap", index)
    assert [file.exists() for file in left.values()] == [True, False]


def _scan_in_turn(heap: str, index: str, number: int) -> int:
    return sum(map(len, scan(f"{heap}/{number}", index=index).values()))


def test_several_writers_at_once_lose_nothing(tmp_path: Path, opened: list[str]) -> None:
    """Enough of them that parts are written as one under the eyes of others."""
    heap, index = tmp_path / "heap", tmp_path / "index"
    for number in range(40):
        write_series(heap / str(number), slices=2, series=f"series {number}")
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        counts = list(pool.map(_scan_in_turn, [str(heap)] * 40, [str(index)] * 40, range(40)))
    assert counts == [2] * 40
    assert_same(scan(heap, index=index), scan(heap))
    opened.clear()
    scan(heap, index=index)
    assert not opened


def test_a_writer_that_is_killed_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    write_series(tmp_path / "a", slices=2)
    write_series(tmp_path / "b", slices=2, series="b")
    scan(tmp_path / "a", index=tmp_path / "index")
    program = f"""
import os
os.fsync = lambda handle: os.truncate(handle, 100) or os._exit(9)
from imagedata_xr.dicom.scan import scan
scan({str(tmp_path / "b")!r}, index={str(tmp_path / "index")!r})
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert_same(scan(tmp_path / "a", index=tmp_path / "index"), scan(tmp_path / "a"))
    assert_same(
        scan([tmp_path / "a", tmp_path / "b"], index=tmp_path / "index"), scan([tmp_path / "a", tmp_path / "b"])
    )


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "ten bytes": lambda data: data[:10],
    "half": lambda data: data[: len(data) // 2],
    "its end is lost": lambda data: data[:-5],
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_read_again_from_the_files(tmp_path: Path, damage: str, opened: list[str]) -> None:
    write_series(tmp_path / "heap", slices=3)
    scan(tmp_path / "heap", index=tmp_path / "index")
    (part,) = (tmp_path / "index").iterdir()
    part.write_bytes(DAMAGE[damage](part.read_bytes()))
    opened.clear()
    with pytest.warns(UserWarning, match=r"part .* is damaged"):
        found = scan(tmp_path / "heap", index=tmp_path / "index")
    assert len(opened) == 3
    assert_same(found, scan(tmp_path / "heap"))


def test_an_index_of_another_version_is_not_used(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "heap", slices=3)
    scan(tmp_path / "heap", index=tmp_path / "index")
    opened.clear()
    monkeypatch.setattr(module, "_FORMAT", "another")
    scan(tmp_path / "heap", index=tmp_path / "index")
    assert len(opened) == 3


def test_a_scan_that_stops_goes_on_where_it_was(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_series(tmp_path / "heap", slices=6)
    files.sort()
    whole = files[4].read_bytes()
    files[4].write_bytes(whole[:-5])
    monkeypatch.setattr(scanning, "_KEPT_AT_ONCE", 2)
    with pytest.raises(UnreadableFileError, match="cut short"):
        scan(tmp_path / "heap", index=tmp_path / "index")
    files[4].write_bytes(whole)
    opened.clear()
    found = scan(tmp_path / "heap", index=tmp_path / "index")
    assert opened == [str(file) for file in files[4:]]
    assert_same(found, scan(tmp_path / "heap"))


def test_damaged_files_are_told_of_each_time(tmp_path: Path) -> None:
    files = write_series(tmp_path / "heap", slices=3)
    files[1].write_bytes(files[1].read_bytes()[:-5])
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out"):
            assert [len(t) for t in scan(tmp_path / "heap", errors="warn", index=tmp_path / "index").values()] == [2]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_names_that_are_no_text_are_kept(tmp_path: Path, opened: list[str]) -> None:
    write_series(tmp_path / "heap", slices=2)
    first = min((tmp_path / "heap").iterdir())
    first.rename(os.fsdecode(os.fsencode(tmp_path / "heap") + b"/caf\xe9"))
    wanted = scan(tmp_path / "heap")
    assert_same(scan(tmp_path / "heap", index=tmp_path / "index"), wanted)
    opened.clear()
    assert_same(scan(tmp_path / "heap", index=tmp_path / "index"), wanted)
    assert opened == []


def test_nobody_else_may_read_the_index(tmp_path: Path) -> None:
    write_series(tmp_path / "heap", slices=2)
    scan(tmp_path / "heap", index=tmp_path / "index")
    assert stat.S_IMODE((tmp_path / "index").stat().st_mode) == 0o700


def test_an_index_is_a_folder_of_dicom(tmp_path: Path) -> None:
    write_series(tmp_path / "heap", slices=2)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="folder of its own"):
        ixr.scan(tmp_path / "heap", index=tmp_path / "file")
    ixr.open_series(tmp_path / "heap").dicom.write(tmp_path / "image.nii")
    with pytest.raises(TypeError, match="index can be given for DICOM only"):
        ixr.open_series(tmp_path / "image.nii", index=tmp_path / "index")


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_an_index_that_cannot_be_written_is_told_and_not_needed(not_root: Path) -> None:
    write_series(not_root / "a", slices=2)
    (not_root / "index").mkdir(mode=0o555)
    drop_rights()
    with pytest.warns(UserWarning, match="index .*index cannot be written, and knows nothing new: Permission denied"):
        assert_same(scan(not_root / "a", index=not_root / "index"), scan(not_root / "a"))


@pytest.mark.parametrize("reading", ["read_bytes", "glob"])
def test_an_index_on_a_disk_that_fails_is_told_and_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    write_series(tmp_path / "a", slices=2)
    known = scan(tmp_path / "a", index=tmp_path / "index")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(type(tmp_path), reading, fail)
    with pytest.warns(UserWarning, match=r"index.* cannot be read \(Input/output error\) and is not used"):
        assert_same(scan(tmp_path / "a", index=tmp_path / "index"), known)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_an_index_that_may_not_be_read_is_told_and_not_needed(not_root: Path) -> None:
    not_root.chmod(0o777)
    drop_rights()
    write_series(not_root / "a", slices=2)
    known = scan(not_root / "a", index=not_root / "closed" / "index")
    (part,) = (not_root / "closed" / "index").iterdir()
    part.chmod(0)
    with pytest.warns(UserWarning, match=rf"part {part} .* cannot be read \(Permission denied\) and is not used"):
        assert_same(scan(not_root / "a", index=part.parent), known)
    (not_root / "closed").chmod(0)
    with pytest.warns(UserWarning, match=r"index cannot be (read|written)"):
        assert_same(scan(not_root / "a", index=part.parent), known)
    (not_root / "closed").chmod(0o755)


def test_values_of_several_representations_come_back(tmp_path: Path) -> None:
    """Elements that some frames lack, or have in another representation."""

    def mutate(ds: pydicom.Dataset, time: int, slice_: int) -> pydicom.Dataset:
        del time
        if slice_ == 1:
            del ds.SliceThickness
        if slice_ == 2:
            ds.add_new("InstanceNumber", "DS", "7.5")
        return ds

    write_series(tmp_path / "a", slices=4, mutate=mutate)
    scan(tmp_path / "a", index=tmp_path / "index")
    assert_same(scan(tmp_path / "a", index=tmp_path / "index"), scan(tmp_path / "a"))


def test_an_index_is_no_url(tmp_path: Path) -> None:
    write_series(tmp_path / "heap", slices=1)
    with pytest.raises(ValueError, match="index='memory://a' is a URL, and an index is a folder of this machine"):
        ixr.scan(tmp_path / "heap", index="memory://a")
