"""Files are written whole, in this thread or in others, and what goes wrong is told."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import imagedata_xr.dicom.save as save
from imagedata_xr.dicom.pixels import LyingPixels
from imagedata_xr.dicom.save import Saver
from imagedata_xr.dicom.stored import WHOLE, PixelFormat, Place
from imagedata_xr.errors import UnreadableFileError

if TYPE_CHECKING:
    from pathlib import Path


def saved(files: list[tuple[str, Any]], *, is_quick: bool) -> None:
    with ThreadPoolExecutor(2) as threads:
        saver = Saver(threads, is_quick=is_quick)
        for path, parts in files:
            saver.add(path, parts)
        saver.hand_over()
        saver.wait()


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the threads that open files."""
    names: set[str] = set()
    os_open = os.open

    def noted(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith(".dcm"):
            names.add(threading.current_thread().name)
        return os_open(path, *args, **options)

    monkeypatch.setattr(os, "open", noted)
    return names


@pytest.mark.parametrize("is_quick", [True, False])
def test_parts_follow_each_other(tmp_path: Path, writers: set[str], is_quick: bool) -> None:
    files = [(str(tmp_path / f"{n}.dcm"), (bytes([n]) * n, memoryview(b"ab"), b"" * n)) for n in range(100)]
    saved(files, is_quick=is_quick)
    for n, (path, _) in enumerate(files):
        with open(path, "rb") as file:
            assert file.read() == bytes([n]) * n + b"ab"
    assert (threading.main_thread().name in writers) == is_quick


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, writers: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "_QUICK", 1e-9)
    saved([(str(tmp_path / f"{n}.dcm"), (b"x" * 1000,)) for n in range(100)], is_quick=True)
    assert len(writers) > 1
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {1000}
    assert len(list(tmp_path.iterdir())) == 100


@pytest.mark.parametrize("is_quick", [True, False])
def test_nothing_is_overwritten(tmp_path: Path, is_quick: bool) -> None:
    (tmp_path / "1.dcm").write_bytes(b"there")
    with pytest.raises(FileExistsError):
        saved([(str(tmp_path / f"{n}.dcm"), (b"new",)) for n in range(3)], is_quick=is_quick)
    assert (tmp_path / "1.dcm").read_bytes() == b"there"


@pytest.mark.parametrize("is_quick", [True, False])
def test_what_the_system_writes_in_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_quick: bool
) -> None:
    monkeypatch.setattr(os, "writev", lambda handle, parts: os.write(handle, bytes(parts[0])[:3]), raising=False)
    saved([(str(tmp_path / "a.dcm"), (b"0123456789", b"abc"))], is_quick=is_quick)
    assert (tmp_path / "a.dcm").read_bytes() == b"0123456789abc"


@pytest.mark.parametrize("is_quick", [True, False])
def test_pixels_that_lie_elsewhere(tmp_path: Path, is_quick: bool) -> None:
    """Bits that are not in use are cleared; a file that has changed is refused."""
    form = PixelFormat(2, 2, 1, 16, 12, 11, False, "MONOCHROME2", False, False)
    source = tmp_path / "source"
    source.write_bytes(b"head" + np.array([0xF123, 0x0456, 0x1FFF, 7], "<u2").tobytes())
    version = source.stat().st_size, source.stat().st_mtime_ns
    lying = LyingPixels(Place(str(source), 4, 8, 0, WHOLE, version), form)
    saved([(str(tmp_path / f"{n}.dcm"), (b"new", lying)) for n in range(20)], is_quick=is_quick)
    wanted = b"new" + np.array([0x123, 0x456, 0xFFF, 7], "<u2").tobytes()
    assert {(tmp_path / f"{n}.dcm").read_bytes() for n in range(20)} == {wanted}
    os.utime(source, ns=(1, 1))
    with pytest.raises(UnreadableFileError, match="has changed"):
        saved([(str(tmp_path / "again.dcm"), (b"new", lying))], is_quick=is_quick)
