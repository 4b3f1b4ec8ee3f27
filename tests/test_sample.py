from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from imagedata_xr import sample


def datasets(folder: Path) -> list[pydicom.Dataset]:
    files = [pydicom.dcmread(file) for file in folder.rglob("*") if file.is_file()]
    return sorted(files, key=lambda ds: ds.InstanceNumber)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_every_call_writes_the_same_patient(patient: Path, tmp_path: Path) -> None:
    assert contents(sample.write_patient(tmp_path / "again")) == contents(patient)


def test_the_patient_is_small(patient: Path) -> None:
    assert sum(file.stat().st_size for file in patient.rglob("*")) < 10e6
    assert sorted(series.name for series in patient.iterdir()) == sorted(sample.SERIES)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        sample.write_patient(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_patient_is_replaced_and_nothing_else(patient: Path, tmp_path: Path) -> None:
    folder = sample.write_patient(tmp_path / "phantom")
    one = next(file for file in (folder / "ct").rglob("*") if file.is_file())
    one.write_bytes(one.read_bytes() + b"\0\0")
    with pytest.raises(FileExistsError, match="replace what is there with overwrite=True"):
        sample.write_patient(folder)
    assert contents(sample.write_patient(folder, overwrite=True)) == contents(patient)
    mine = folder / "ct" / "mine"
    mine.write_bytes(one.read_bytes() if one.exists() else b"mine")
    with pytest.raises(FileExistsError, match="holds other things"):
        sample.write_patient(folder, overwrite=True)
    assert mine.exists()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert sample.write_patient(tmp_path) == tmp_path
    assert sorted(series.name for series in tmp_path.iterdir()) == sorted(sample.SERIES)


@pytest.mark.parametrize("name", sample.SERIES)
def test_files_are_valid_dicom(patient: Path, name: str) -> None:
    dciodvfy = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert dciodvfy, "dciodvfy comes with the package dicom3tools of the extra `test`"
    files = sorted(file for file in (patient / name).rglob("*") if file.is_file())
    for file in files[:: len(files) // 4]:
        run = subprocess.run([dciodvfy, "-new", str(file)], capture_output=True, text=True, check=False)
        report = [line for line in (run.stdout + run.stderr).splitlines() if "Error" in line]
        assert run.returncode == 0, report
        assert not report


def test_every_frame_has_its_own_uid(patient: Path) -> None:
    uids = [ds.SOPInstanceUID for name in sample.SERIES for ds in datasets(patient / name)]
    assert len(set(uids)) == len(uids) == 202
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in uids)


def test_the_dynamic_series_are_two_runs_of_one_protocol(patient: Path) -> None:
    first, second = datasets(patient / "dynamic_1")[0], datasets(patient / "dynamic_2")[0]
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ProtocolName"):
        assert first[keyword] == second[keyword]
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.ImagePositionPatient == second.ImagePositionPatient
    assert first.ImageOrientationPatient == second.ImageOrientationPatient


def test_slices_are_evenly_spaced_along_the_normal(patient: Path) -> None:
    for name, step in (("dynamic_1", 6.0), ("ct", 5.0)):
        frames = datasets(patient / name)[:10]
        orientation = np.array(frames[0].ImageOrientationPatient, float).reshape(2, 3)
        steps = np.diff([np.array(ds.ImagePositionPatient, float) for ds in frames], axis=0)
        np.testing.assert_allclose(np.linalg.norm(orientation, axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(steps, np.broadcast_to(-step * np.cross(*orientation), steps.shape), atol=1e-6)


def test_file_names_do_not_tell_the_order(patient: Path) -> None:
    numbers = [
        pydicom.dcmread(file).InstanceNumber for file in sorted((patient / "ct").rglob("*[0-9A-F]")) if file.is_file()
    ]
    assert numbers not in (sorted(numbers), sorted(numbers, reverse=True))


def test_ct_is_in_hounsfield_units(patient: Path) -> None:
    frames = datasets(patient / "ct")
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in frames])
    assert np.median(hu[:, :8, :8]) == pytest.approx(-1000, abs=3)
    assert np.median(hu[:, 40:56, 40:56]) == pytest.approx(35, abs=12)  # brain


def test_the_lesion_enhances_and_the_brain_hardly(patient: Path) -> None:
    frames = np.stack([ds.pixel_array for ds in datasets(patient / "dynamic_1")]).reshape(6, 10, 96, 80).astype(float)
    change = frames[-1] - frames[0]
    assert (change > 250).sum() > 100
    assert abs(np.median(change)) < 40
