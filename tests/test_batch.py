"""Many series at once: each whole or not at all, what fails is told, and a second run does what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr import batch
from imagedata_xr.manifest import NAME, Manifest
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


def heap(path: Path, count: int, **options: Any) -> Path:
    """Write series of two slices, each with a value of its own."""
    for k in range(count):
        told = {"SeriesDescription": f"scan {k % 7}", "PatientName": "Doe^Jane"}
        own = {"series": f"s{k}", "number": k + 1, "values": lambda t, z, k=k: np.full((4, 4), k)}
        write_series(path / str(k), slices=2, rows=4, cols=4, tags=told, **own, **options)
    return path


def killed_once(task: batch.Task, *rest: Any) -> Any:
    """Convert, but kill the own process the first time that one series comes by."""
    mark = os.environ["IXR_TEST_MARK"]
    if task.output.startswith("3_"):
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return batch.convert_one(task, *rest)


def test_each_series_has_an_output_of_its_own(tmp_path: Path) -> None:
    done = ixr.convert(heap(tmp_path / "in", 9), tmp_path / "out", format="nifti")
    assert repr(done) == "<Batch of 9 series: 9 written, 0 kept, 0 failed>"
    table = done.to_dataframe()
    assert table.output.is_unique
    assert (table.status == "written").all()
    values = sorted(float(ixr.open_series(file).max()) for file in (tmp_path / "out").rglob("*.nii.gz"))
    assert values == list(range(9))
    done.raise_for_failed()


def test_names_tell_nothing_of_the_patient(tmp_path: Path) -> None:
    ixr.convert(heap(tmp_path / "in", 3), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [NAME, "1_scan_0", "2_scan_1", "3_scan_2"]
    assert "Doe" not in (tmp_path / "out" / NAME).read_text()


def test_series_of_the_same_name(tmp_path: Path) -> None:
    for k in range(3):
        write_series(tmp_path / "in" / str(k), series=f"s{k}", number=1)
    done = ixr.convert(tmp_path / "in", tmp_path / "out")
    assert len({result.output for result in done.results}) == 3
    assert not done.failed


def test_the_rest_goes_on(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "uneven", series="bad", gaps=[3.0, 6.0, 1.0], number=77)
    source = heap(tmp_path / "in", 4)
    cut = next((source / "2").iterdir())
    cut.write_bytes(cut.read_bytes()[:-10])
    done = ixr.convert(source, tmp_path / "out", format="nifti")
    reasons = {result.output.rpartition("/")[2]: result.reason for result in done.failed}
    assert "uneven" in next(reason for name, reason in reasons.items() if name.startswith("77"))
    assert "cut short" in reasons[""]
    assert not list((tmp_path / "out").glob("77*"))
    with pytest.raises(ixr.errors.BatchError, match="2 of 6 series were not converted"):
        done.raise_for_failed()


def test_a_second_run_does_what_is_missing(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 6), tmp_path / "out"
    first = ixr.convert(source, out, format="nifti")
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.nii.gz")}
    again = ixr.convert(source, out, format="nifti")
    assert {result.status for result in again.results} == {"kept"}
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("*.nii.gz")}
    by_series = {result.series: result for result in first.results}
    gone, changed = first.results[0], first.results[1]
    for file in (out / gone.output).iterdir():
        file.unlink()
    number = int(ixr.open_series(changed.output).max())
    for file in (source / str(number)).iterdir():
        os.utime(file, ns=(1, 1))
    heap(tmp_path / "in", 7)  # the same again, which are other files by their times, and one more
    third = ixr.convert(source, out, format="nifti")
    assert len(third.results) == 7
    assert not third.failed
    assert {by_series[s].output for s in by_series} <= {result.output for result in third.results}
    other_way = ixr.convert(source, out, format="nifti", order="none")
    assert {result.status for result in other_way.results} == {"written"}


def test_what_lies_there_is_not_replaced(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 2), tmp_path / "out"
    (out / "1_scan_0").mkdir(parents=True)
    (out / "1_scan_0" / "thesis.txt").write_text("years")
    done = ixr.convert(source, out)
    assert [result.status for result in done.results].count("failed") == 1
    assert "is not of an earlier run" in done.failed[0].reason
    assert (out / "1_scan_0" / "thesis.txt").read_text() == "years"


def test_a_torn_manifest_is_believed_as_far_as_it_goes(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 3), tmp_path / "out"
    ixr.convert(source, out)
    text = (out / NAME).read_bytes()
    (out / NAME).write_bytes(text[:-30])
    done = ixr.convert(source, out)
    assert sorted(result.status for result in done.results) == ["kept", "kept", "written"]
    assert {result.status for result in ixr.convert(source, out).results} == {"kept"}
    (out / NAME).write_bytes(b"\xff\xfe not JSON\n[]\n{}\n")
    assert Manifest(out).outputs == set()


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_several_at_a_time(tmp_path: Path, workers: Any) -> None:
    done = ixr.convert(heap(tmp_path / "in", 6), tmp_path / "out", jobs=2, workers=workers)
    assert {result.status for result in done.results} == {"written"}
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 12


def test_a_killed_process_costs_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "convert_one", killed_once)
    monkeypatch.setenv("IXR_TEST_MARK", str(tmp_path / "mark"))
    done = ixr.convert(heap(tmp_path / "in", 8), tmp_path / "out", jobs=2)
    assert (tmp_path / "mark").exists()
    assert {result.status for result in done.results} == {"written"}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.endswith(".new")]


@pytest.mark.slow
def test_a_cluster_of_processes_with_a_killed_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("IXR_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(batch, "convert_one", killed_once)
    source = heap(tmp_path / "in", 300)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        done = ixr.convert(source, tmp_path / "out", format="nifti", client=client)
    assert (tmp_path / "mark").exists()
    assert repr(done) == "<Batch of 300 series: 300 written, 0 kept, 0 failed>"
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 300
    values = {int(ixr.open_series(result.output).max()) for result in done.results[::10]}
    assert len(values) == 30


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 40), tmp_path / "out"
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""\
        import imagedata_xr as ixr
        if __name__ == "__main__":
            ixr.convert({str(source)!r}, {str(out)!r}, jobs=1)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, script],
        stderr=subprocess.PIPE,
        # Where the tests run in the background themselves, Ctrl-C would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while len(list(out.glob("[0-9]*_scan_*"))) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    whole = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 3 <= len(whole) < 40
    assert all(len(list(path.iterdir())) == 2 for path in whole)
    assert not [path for path in out.iterdir() if path.name.endswith(".new")]
    done = ixr.convert(source, out)
    status = [result.status for result in done.results]
    assert status.count("kept") >= 3
    assert status.count("kept") + status.count("written") == 40


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format='bmp' is not known"):
        ixr.convert(tmp_path, tmp_path / "out", format="bmp")
    with pytest.raises(ValueError, match="workers='fibres'"):
        ixr.convert(tmp_path, tmp_path / "out", workers="fibres")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ixr.errors.NoDicomError):
        ixr.convert(tmp_path, tmp_path / "out")
