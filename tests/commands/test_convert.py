"""``image_data OUT IN...`` writes everything and exits with 0, or writes nothing and says why."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.cli import main
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from fsspec.implementations.memory import MemoryFileSystem


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "image_data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "in", times=3, slices=2)
    return tmp_path / "in"


def test_in_a_process_of_its_own(tmp_path: Path, series: Path) -> None:
    done = run("--order", "time", "--sernum", 1004, "--serdes", "Processed data", tmp_path / "out", series)
    assert done.returncode == 0, done.stderr
    assert "6 files, time: 3, slice: 2" in done.stdout
    assert done.stderr == "", "no progress bar where there is no terminal"
    out = ixr.open_series(tmp_path / "out", "time")
    source = ixr.open_series(series, "time")
    assert (out.values == source.values).all()
    assert (out.attrs["SeriesNumber"], out.attrs["SeriesDescription"]) == (1004, "Processed data")
    assert out.attrs["SeriesInstanceUID"] != source.attrs["SeriesInstanceUID"]
    assert out.attrs["StudyInstanceUID"] == source.attrs["StudyInstanceUID"]
    assert all(pydicom.dcmread(p).SeriesNumber == 1004 for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_errors_name_the_options_of_the_command(
    tmp_path: Path, series: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert main([str(tmp_path / "out"), str(series)]) == 6
    error = capsys.readouterr().err
    assert "--force" in error
    assert "overwrite" not in error
    assert tree(tmp_path / "out") == ["mine"]


def test_wrong_usage(tmp_path: Path, series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run().returncode == 2
    out, source = str(tmp_path / "out"), str(series)
    for arguments in (
        [out],
        ["--sernum", "one", out, source],
        ["--jobs", "0", out, source],
        ["--jobs", "many", out, source],
        ["--unknown", out, source],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "argument --jobs: many was given, 1 or more is wanted" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


_LONG = "x" * 65


@pytest.mark.parametrize(
    "words",
    [
        *(["--input-format", "foo", "OUT", "IN"], ["--sernum", "2147483648", "OUT", "IN"]),
        *(["--serdes", _LONG, "OUT", "IN"], ["--frame", "1.x", "OUT", "IN"], ["--imagetype", "small", "OUT", "IN"]),
        *([f"--{name}", "", "OUT", "IN"] for name in ("imagetype", "frame", "dtype", "window")),
        *(["--imagetype", ",MAP", "OUT", "IN"], ["calc", "--imagetype", "", "OUT", "a", "IN"]),
        *(["https://localhost:1/OUT", "IN"], ["calc", "https://localhost:1/OUT", "a", "IN"]),
        *(["show", "--port", "65536", "IN"], ["show", "--save", "page.txt", "IN"]),
        *(["timeline", "--order", "image_type", "IN"], ["stats", "--bash", "--json", "IN"]),
        *(["tags", "-k", "", "IN"], ["query", "-k", "=1", "dicom://localhost:1/A"]),
    ],
)
def test_values_that_are_none_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    write_series(tmp_path / "in", slices=2)
    places = {"OUT": str(tmp_path / "out"), "IN": str(tmp_path / "in")}
    assert main([places.get(word, word) for word in words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("image_data: error: ")
    assert len(told.err.splitlines()) == 1
    assert tree(tmp_path) == ["in", *(f"in/{path}" for path in tree(tmp_path / "in"))]


def test_what_the_library_of_a_server_says_is_no_surprise(
    series: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert main(["s3://nobody/out", str(series)]) == 6
    assert "cannot write to s3://nobody/out: NoCredentialsError" in capsys.readouterr().err


def test_type_of_values(tmp_path: Path, series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NumPy alone would wrap HU of air to 0, and cut fractions."""
    image = ixr.open_series(series)
    (image * 0 + 7).dicom.write(tmp_path / "seven")
    shifted = image.astype(float) * 0 - 1023.6
    ixr.write(shifted, tmp_path / "a.nii")
    for dtype, words in (("uint8", "-1024 to -1024, and uint8 holds 0 to 255"), ("object", "no type of numbers")):
        assert main(["--of", "nifti", "--dtype", dtype, str(tmp_path / "b.nii"), str(tmp_path / "a.nii")]) in (2, 6)
        assert words in capsys.readouterr().err
        assert not (tmp_path / "b.nii").exists()
    assert main(["--of", "nifti", "--dtype", "int16", str(tmp_path / "c.nii"), str(tmp_path / "a.nii")]) == 0
    assert (ixr.open_series(tmp_path / "c.nii") == -1024).all()
    assert main(["--of", "nifti", "--dtype", "uint8", str(tmp_path / "d.nii"), str(tmp_path / "seven")]) == 0
    assert (ixr.open_series(tmp_path / "d.nii") == 7).all()
    ixr.write(shifted.where(shifted.row > shifted.row[0]), tmp_path / "nan.nii")
    assert main(["--of", "nifti", "--dtype", "int16", str(tmp_path / "e.nii"), str(tmp_path / "nan.nii")]) == 6
    assert main(["--of", "nifti", "--dtype", "float32", str(tmp_path / "e.nii"), str(tmp_path / "nan.nii")]) == 0


def test_failures_leave_nothing(tmp_path: Path, series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(tmp_path)
    for arguments, wanted in (
        ([str(tmp_path / "out"), str(tmp_path / "missing")], (3, "missing")),
        (
            [str(tmp_path / "out"), str(series), "--order", "te"],
            (4, "Use --order time, or keep all with --input_options dup"),
        ),
        ([str(tmp_path / "out"), str(series), "--order", "nonsense"], (4, "neither a DICOM keyword")),
        (
            [str(tmp_path / "out"), str(series), "--series", "9"],
            (4, "Choose with --series (UID, number or"),
        ),
        (["", str(series)], (2, "'.' is the current folder")),
        (["montage", str(tmp_path / "a.png"), str(series), "--volume", "3"], (2, "the image has 3 volumes, from 0 on")),
        ([str(tmp_path / "out"), str(series), "--of", "word"], (2, "--of word: there are dicom, nifti")),
        ([str(tmp_path / "out"), str(series), "--input_options", "missing"], (2, "NAME=VALUE")),
        ([str(tmp_path / "out"), str(series), "--input_options", "mising=fill"], (2, "of DICOM there are missing, ")),
        (["dicom://host:104", str(series)], (1, "dicom://host:port/AETITLE is wanted")),
    ):
        status, words = wanted
        assert main(arguments) == status
        captured = capsys.readouterr()
        assert captured.err.startswith("image_data: error: ")
        assert words in captured.err
        assert "Traceback" not in captured.err
        assert captured.out == ""
    assert tree(tmp_path) == before


def test_partial_failure_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last frame cannot be decoded; those before it were written, and vanish."""
    files = write_series(tmp_path / "in", slices=5)
    ds = pydicom.dcmread(files[-1])
    ds.PixelData = ds.PixelData[:-20]
    ds.save_as(files[-1])
    before = tree(tmp_path)
    assert main([str(tmp_path / "out"), str(tmp_path / "in")]) == 3
    assert files[-1].name in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_existing_output_stays(tmp_path: Path, series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    assert main([str(out), str(series)]) == 6
    assert main([str(out), str(series), "--overwrite"]) == 6, "it is no folder of DICOM files"
    assert tree(out) == ["precious"]
    assert capsys.readouterr().out == ""
    assert main([str(out / "precious" / "more"), str(series)]) == 6
    assert "precious is a file: " in capsys.readouterr().err
    assert main([str(tmp_path / "fresh"), str(series)]) == 0
    assert main([str(tmp_path / "fresh"), str(series)]) == 6
    assert main([str(tmp_path / "fresh"), str(series), "--overwrite"]) == 0


def test_several_sources_are_one_heap(tmp_path: Path) -> None:
    for t in range(2):
        keep = lambda ds, k, _z, t=t: setattr(ds, "skip", k != t)  # noqa: E731
        write_series(tmp_path / str(t), times=2, slices=2, mutate=keep)
    assert main([str(tmp_path / "out"), str(tmp_path / "0"), str(tmp_path / "1"), "--order", "time"]) == 0
    assert ixr.open_series(tmp_path / "out", "time").sizes["time"] == 2


def test_output_into_the_input(tmp_path: Path, series: Path) -> None:
    before = {p: p.read_bytes() for p in series.iterdir()}
    main([str(series), str(series), "--overwrite"])
    left = {p: p.read_bytes() for p in series.rglob("*") if p.is_file()}
    assert len(left) == len(before)
    assert ixr.open_series(series, "time").values[2, 1, 0, :2].tolist() == [2, 1]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option, words in (("--version", ixr.__version__), ("--help", "--order")):
        with pytest.raises(SystemExit) as caught:
            main(["convert", option])
        assert caught.value.code == 0
        assert words in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
def test_series_that_are_called_like_files_go_to_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("map.nii", "T1.dcm", "all.zip", "1.5 mm")):
        write_series(tmp_path / "in" / str(number), series=name, number=number)
    assert main(["--of", "dicom", str(tmp_path / "out"), str(tmp_path / "in")]) == 0
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("00001.dcm")) == [
        *("0_map_nii", "1_T1_dcm", "2_all_zip", "3_1.5_mm"),
    ]


def test_progress_bar_on_a_terminal(tmp_path: Path, series: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "image_data", str(tmp_path / "out"), str(series)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, timeout=120, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0, shown
    assert "6/6" in shown


@pytest.mark.parametrize("options", [(), ("--force",), ("--force", "--of", "nifti")])
def test_no_series_goes_to_the_folder_of_another(tmp_path: Path, options: tuple[str, ...]) -> None:
    for number, patient in enumerate(("A?", "A*", "a_")):
        tags = {"PatientID": patient, "SeriesDescription": "T?", "StudyDate": f"2026010{number}"}
        write_series(tmp_path / "in" / str(number), slices=2, study=patient, series=patient, tags=tags)
    assert main([str(tmp_path / "out"), str(tmp_path / "in"), *options]) == 0
    folders = [path for path in tmp_path.glob("out/*/*/*") if path.is_dir()]
    assert len({str(path.parent.parent).lower() for path in folders}) == 3
    if "nifti" not in options:
        assert {ixr.open_series(path).attrs["PatientID"] for path in folders} == {"A?", "A*", "a_"}


def test_output_at_a_url(
    tmp_path: Path,
    series: Path,
    patient: Path,
    memory: MemoryFileSystem,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["memory://b/x", str(series)]) == 0
    assert capsys.readouterr().out.startswith("memory://b/x: dicom, 6 files")
    assert main(["memory://b/x.nii.gz", str(series)]) == 0
    assert main(["memory://b/x", str(series)]) == 6
    assert main(["memory://b/of", str(series), "--of", "nifti", "--of", "itk"]) == 0
    assert main(["memory://b/%p/y", str(series), "--of", "nifti"]) == 0
    assert main(["memory://b/all", str(patient)]) == 0
    assert main(["memory://b/z.zip", str(series)]) == 0
    assert main(["calc", "memory://b/sum", "a + a", str(series)]) == 0
    assert len(memory.find("/b/x")) == 6
    assert {"/b/x.nii.gz", "/b/x.json", "/b/of/nifti/image.nii.gz", "/b/nifti/y/image.nii.gz"} <= {*memory.find("/b")}
    assert len({name.rpartition("/")[0] for name in memory.find("/b/all")}) == 5
    assert (ixr.open_series("memory://b/z.zip", "time").values == ixr.open_series(series, "time").values).all()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "file:///tmp/x", "in"],
        ["montage", "memory://b/x.png", "in"],
        ["sort", "memory://b/x", "in"],
        ["show", "--save", "memory://b/x.html", "in"],
        ["receive", "memory://b/x"],
    ],
)
def test_output_at_a_url_is_refused_where_it_cannot_be(
    tmp_path: Path,
    series: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert "path" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_several_series_are_not_one_archive(
    tmp_path: Path, series: Path, patient: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "x.zip"), str(patient)]) == 2
    assert "is one archive, and several series are there" in capsys.readouterr().err
    assert main([str(tmp_path / "x.zip"), str(series), "--of", "nifti", "--of", "itk"]) == 2
    assert not (tmp_path / "x.zip").exists()


def test_output_and_input_that_are_exchanged_are_told(
    tmp_path: Path, series: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(series), str(tmp_path / "out")]) == 3
    assert capsys.readouterr().err.endswith("out'. The output is named first: image_data OUT IN\n")
    assert main([str(tmp_path / "out"), str(tmp_path / "nothing")]) == 3
    assert "named first" not in capsys.readouterr().err
