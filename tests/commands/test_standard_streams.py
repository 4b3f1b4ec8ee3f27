"""Standard output and error that cannot take what a command tells: its exit status tells what was done all the same."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagedata_xr.commands.report import guarded
from tests.generate import write_series

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a shell")

COMMAND = f"{sys.executable} -m image_data"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return how a line for bash ended; its status is that of the first part that failed."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a heap of a series that can be converted, and of one that cannot."""
    write_series(tmp_path / "in" / "a", series="a", number=1)
    write_series(tmp_path / "in" / "b", series="b", number=2, times=2)
    return tmp_path / "in"


@pytest.mark.parametrize("resume", ["", "--resume"])
def test_a_reader_that_has_gone_makes_no_failure_a_success(broken: Path, tmp_path: Path, resume: str) -> None:
    assert shell(f"{COMMAND} --order none {resume} {tmp_path / 'out'} {broken} | true").returncode == 5
    assert len(list((tmp_path / "out").glob("1_*/*.dcm"))) == 4


def test_nobody_reads_messages(broken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A warning comes before the images are written.
    done = shell(f"{COMMAND} -v --order none {out} {broken} 2>&1 >{os.devnull} | true")
    assert done.returncode == 5
    assert list(out.rglob("*.dcm"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_messages_that_cannot_be_written(broken: Path, tmp_path: Path) -> None:
    assert shell(f"{COMMAND} --order none {tmp_path / 'out'} {broken} 2>/dev/full").returncode == 5
    assert shell(f"{COMMAND} {tmp_path / 'out'} {broken / 'a'} 2>/dev/full").returncode == 6, "something is there"


def test_a_pipe_that_breaks_elsewhere_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """As of a server that hangs up: that was no success."""

    def run(_: argparse.Namespace) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    assert guarded(run, argparse.Namespace(), "image_data") == 7
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii:surrogateescape", "cp1252", "utf-8:strict"])
def test_letters_that_the_encoding_has_not(tmp_path: Path, encoding: str) -> None:
    source = tmp_path / "\u8133 \udcff"
    write_series(source, slices=2)
    done = shell(f"{COMMAND} info {tmp_path} && {COMMAND} list -r {tmp_path}", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\udcff" in done.stdout
    source.rename(tmp_path / "\u8133")
    done = shell(f"{COMMAND} {tmp_path / '脳-out'} {tmp_path / '脳'}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "2 files" in done.stdout
