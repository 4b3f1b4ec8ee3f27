"""Output to archives and URLs is there whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import imagedata_xr as ixr
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from fsspec.implementations.memory import MemoryFileSystem


@pytest.mark.parametrize("name", ["out.zip", "out.tar", "out.tar.gz", "deep/er/out.tgz"])
def test_archives(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "in", times=2)
    image = ixr.open_series(tmp_path / "in", "time")
    assert (image * 2).dicom.write(tmp_path / name) == [tmp_path / name]
    assert np.array_equal(ixr.open_series(tmp_path / name, "time").values, 2 * image.values)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        image.dicom.write(tmp_path / name)
    image.dicom.write(tmp_path / name, overwrite=True)
    assert np.array_equal(ixr.open_series(tmp_path / name, "time").values, image.values)
    image.dicom.write(tmp_path / "nifti.zip", format="nifti")
    assert np.array_equal(ixr.open_series(tmp_path / "nifti.zip").values, image.values)
    assert not list((tmp_path / name).parent.glob(".*")), "nothing half written"


def test_a_failure_leaves_nothing(tmp_path: Path, memory: MemoryFileSystem) -> None:
    write_series(tmp_path / "in")
    image = ixr.open_series(tmp_path / "in") * np.nan
    for target in (str(tmp_path / "out.zip"), "memory://fail/dir"):
        with pytest.raises(ValueError, match="NaN"):
            image.dicom.write(target)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert not memory.exists("/fail")


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are of Unix")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "flat", rows=128, cols=128)
    flat = ixr.open_series(tmp_path / "flat")
    noise = np.random.default_rng(0).integers(0, 30000, flat.shape).astype("int16")
    flat.copy(data=noise).dicom.write(tmp_path / "in")
    shutil.rmtree(tmp_path / "flat")
    (tmp_path / "tmp").mkdir()
    code = f"""
import resource, signal
import imagedata_xr as ixr
image = ixr.open_series({str(tmp_path / "in")!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for target in {[str(tmp_path / "out.zip"), str(tmp_path / "out.tar"), "memory://full/image.nii"]}:
    try:
        ixr.write(image, target)
    except OSError as error:
        print(error.filename, *error.__notes__ if hasattr(error, "__notes__") else "", sep="; ")
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    *archives, there = run.stdout.splitlines()
    assert archives == [str(tmp_path / "out.zip"), str(tmp_path / "out.tar")]
    assert re.search(r"/tmp/imagedata_xr-.*/image\.nii; .* name another with the environment variable TMPDIR", there)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent.name != "in") == ["in", "tmp"]


def test_urls(tmp_path: Path, memory: MemoryFileSystem) -> None:
    write_series(tmp_path / "in")
    image = ixr.open_series(tmp_path / "in")
    image.dicom.write("memory://out/dicom")
    assert np.array_equal(ixr.open_series("memory://out/dicom").values, image.values)
    image.dicom.write("memory://out/nifti/a.nii.gz")
    assert sorted(memory.ls("/out/nifti", detail=False)) == ["/out/nifti/a.json", "/out/nifti/a.nii.gz"]
    for target in ("memory://out/dicom", "memory://out/nifti/a.nii.gz"):
        with pytest.raises(FileExistsError):
            image.dicom.write(target)
