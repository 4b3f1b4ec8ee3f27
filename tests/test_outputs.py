"""Output to archives and URLs is there whole or not at all."""

from __future__ import annotations

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
