"""Files are read as ever, and what is none is not waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagedata_xr import regular
from imagedata_xr.regular import open_regular, opened
from imagedata_xr.streams import dcmread, open_binary

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes among the files")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_file_is_read_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """Also where the system has no such flag."""
    if not at_once:
        monkeypatch.setattr(regular, "_AT_ONCE", 0)
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", str(tmp_path / "link")):
        handle, found = opened(path)
        try:
            assert os.get_blocking(handle), "of a file on tape a read has to wait"
            assert (found.st_size, os.read(handle, 9)) == (3, b"abc")
        finally:
            os.close(handle)
        with open_regular(path) as file:
            assert (file.read(), str(file.name)) == (b"abc", str(path))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match=f"it is no file, but a pipe or device: '{path}'"):
            opened(path)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        open_regular(tmp_path / "gone")


def test_a_pipe_is_waited_for_nowhere(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (open_binary, dcmread):
        with pytest.raises(OSError, match="a pipe or device"):
            read(str(tmp_path / "pipe"))


_LEASE = """
import fcntl, os, signal, sys
handle = os.open(sys.argv[1], os.O_RDWR)
signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK))
fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has leases")
def test_a_file_that_another_program_has_to_let_go_is_waited_for(tmp_path: Path) -> None:
    """As servers of files hold those that their clients write to."""
    (tmp_path / "file").write_bytes(b"abc")
    holder = subprocess.Popen([sys.executable, "-c", _LEASE, tmp_path / "file"], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            pytest.skip("the file system has no leases")
        with open_regular(tmp_path / "file") as file:
            assert file.read() == b"abc"
        holder.kill()
