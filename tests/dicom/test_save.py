"""Files are written whole, in this thread or in others, and what goes wrong is told."""

from __future__ import annotations

import os
import threading
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from imagedata_xr.dicom.parts import LyingPixels
from imagedata_xr.dicom.stored import WHOLE, PixelFormat, Place
from imagedata_xr.errors import UnreadableFileError
from tests.dicom.saving import save

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("in_turns", [True, False])
def test_parts_follow_each_other(tmp_path: Path, writers: set[str], in_turns: bool) -> None:
    files = [(str(tmp_path / f"{n}.dcm"), (bytes([n]) * n, memoryview(b"ab"), b"" * n)) for n in range(100)]
    save(files, in_turns=in_turns)
    assert len(list(tmp_path.iterdir())) == len(files)
    for n, (path, _) in enumerate(files):
        with open(path, "rb") as file:
            assert file.read() == bytes([n]) * n + b"ab"
    assert in_turns or threading.main_thread().name not in writers


def test_a_slow_disk_is_written_to_by_several_threads(
    tmp_path: Path, writers: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close

    def slowly(handle: int) -> None:
        close(handle)
        sleep(0.005)

    monkeypatch.setattr(os, "close", slowly)
    save([(str(tmp_path / f"{n}.dcm"), (b"x" * 1000,)) for n in range(100)], in_turns=True)
    assert len(writers) == 3
    assert threading.main_thread().name in writers
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {1000}
    assert len(list(tmp_path.iterdir())) == 100


@pytest.mark.parametrize("broken", [3, 39, 57, 99])
@pytest.mark.parametrize("in_turns", [True, False])
def test_an_error_of_any_thread_is_raised(tmp_path: Path, broken: int, in_turns: bool) -> None:
    paths = [tmp_path / f"{n}.dcm" for n in range(100)]
    paths[broken] = tmp_path / "absent" / "file.dcm"
    with pytest.raises(FileNotFoundError, match="absent"):
        save([(str(path), (b"x" * 1000,)) for path in paths], in_turns=in_turns)


@pytest.mark.parametrize("in_turns", [True, False])
def test_nothing_is_overwritten(tmp_path: Path, in_turns: bool) -> None:
    (tmp_path / "1.dcm").write_bytes(b"there")
    with pytest.raises(FileExistsError):
        save([(str(tmp_path / f"{n}.dcm"), (b"new",)) for n in range(3)], in_turns=in_turns)
    assert (tmp_path / "1.dcm").read_bytes() == b"there"


@pytest.mark.parametrize("in_turns", [True, False])
def test_what_the_system_writes_in_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_turns: bool
) -> None:
    monkeypatch.setattr(os, "writev", lambda handle, parts: os.write(handle, bytes(parts[0])[:3]), raising=False)
    save([(str(tmp_path / "a.dcm"), (b"0123456789", b"abc"))], in_turns=in_turns)
    assert (tmp_path / "a.dcm").read_bytes() == b"0123456789abc"


@pytest.mark.parametrize("in_turns", [True, False])
def test_pixels_that_lie_elsewhere(tmp_path: Path, in_turns: bool) -> None:
    """Bits that are not in use are cleared; a file that has changed is refused."""
    form = PixelFormat(2, 2, 1, 16, 12, 11, False, "MONOCHROME2", False, False)
    source = tmp_path / "source"
    source.write_bytes(b"head" + np.array([0xF123, 0x0456, 0x1FFF, 7], "<u2").tobytes())
    version = source.stat().st_size, source.stat().st_mtime_ns
    lying = LyingPixels(Place(str(source), 4, 8, 0, WHOLE, version), form)
    save([(str(tmp_path / f"{n}.dcm"), (b"new", lying)) for n in range(20)], in_turns=in_turns)
    wanted = b"new" + np.array([0x123, 0x456, 0xFFF, 7], "<u2").tobytes()
    assert {(tmp_path / f"{n}.dcm").read_bytes() for n in range(20)} == {wanted}
    os.utime(source, ns=(1, 1))
    with pytest.raises(UnreadableFileError, match="has changed"):
        save([(str(tmp_path / "again.dcm"), (b"new", lying))], in_turns=in_turns)
