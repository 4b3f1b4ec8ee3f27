"""Formats that other distributions bring, installed as users install them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import imagedata_xr as ixr
from imagedata_xr.formats.registry import Format, format_names, format_of, get_format

PLUGIN = Path(__file__).parents[2] / "examples" / "format_plugin"


def test_names_and_suffixes() -> None:
    assert format_names()[:4] == ["nifti", "itk", "mat", "raster"]
    assert format_of("a/B.NII.GZ") == format_of("zip://b.nii::/x/a.zip") == "nifti"
    assert format_of("a.zip") is None
    for name in format_names():
        found = get_format(name)
        assert (found.name, found.read is None, found.write is None) == (name, False, False)
    with pytest.raises(ValueError, match="format='word' is not known"):
        ixr.open_series(PLUGIN, format="word")


def python(code: str, *folders: Path, warn: str = "error") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, folders))
    return subprocess.run(
        [sys.executable, "-W", warn, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.slow
def test_a_plug_in_from_a_distribution_of_its_own(tmp_path: Path, patient: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, PLUGIN]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = f"""
import imagedata_xr as ixr
a = ixr.open_series({str(patient / "ct")!r})
files = ixr.write(a, {str(tmp_path / "a.npy")!r})
assert [f.name for f in files] == ["a.npy", "a.npy.affine"], files
b = ixr.open_series({str(tmp_path / "a.npy")!r}, template=a)
assert (b == a).all() and b.dicom.geometry_equal(a)
assert (ixr.open_series({str(tmp_path / "a.npy")!r})[2:5, ::-1, 3].values == a[2:5, ::-1, 3].values).all()
b.dicom.write({str(tmp_path / "dicom")!r})
"""
    done = python(code, site)
    assert done.returncode == 0, done.stderr
    lines = [line for line in (PLUGIN / "imagedata_xr_npy.py").read_text().splitlines() if line.strip()]
    assert len(lines) < 45


def test_a_broken_plug_in_breaks_nothing_else(tmp_path: Path, patient: Path) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[imagedata_xr.formats]\nbroken = no_such_module:FORMAT\n")
    code = (
        "import imagedata_xr as ixr; from imagedata_xr.formats.registry import format_of; print(format_of('a.xyz')); "
        f"print(ixr.open_series({str(patient / 'ct')!r}).shape)"
    )
    done = python(code, tmp_path, warn="default")
    assert done.returncode == 0, done.stderr
    assert "plug-in 'broken'" in done.stderr
    done = python(f"{code}; ixr.open_series('x', format='broken')", tmp_path, warn="ignore")
    assert done.returncode == 1


def test_our_own_suffixes_cannot_be_taken(tmp_path: Path) -> None:
    info = tmp_path / "greedy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[imagedata_xr.formats]\nnifti = greedy:F\ngreedy = greedy:F\n")
    (tmp_path / "greedy.py").write_text(
        "from imagedata_xr.formats.registry import Format\nF = Format('greedy', ('.nii', '.greedy'))\n"
    )
    names = "format_of('a.nii'), format_of('a.greedy'), get_format('nifti').name"
    code = f"from imagedata_xr.formats.registry import *; print({names})"
    done = python(code, tmp_path)
    assert done.stdout.split() == ["nifti", "greedy", "nifti"], done.stderr
    assert Format("a", (".a",)).read is None
