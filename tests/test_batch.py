"""Many series at once: each whole or not at all, what fails is told, and a second run does what is missing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import imagedata_xr as ixr
from imagedata_xr import batch, lock
from imagedata_xr.manifest import NAME, Manifest, digest
from imagedata_xr.plan import _free, settings_of
from tests.cluster import two_processes
from tests.conftest import drop_rights
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable


def heap(path: Path, count: int, **options: Any) -> Path:
    """Write series of two slices, each with a value of its own."""
    for k in range(count):
        told = {"SeriesDescription": f"scan {k % 7}", "PatientName": "Doe^Jane"}
        own = {"series": f"s{k}", "number": k + 1, "values": lambda t, z, k=k: np.full((4, 4), k)}
        write_series(path / str(k), slices=2, rows=4, cols=4, tags=told, **own, **options)
    return path


def killed_once(task: batch.Task, **how: Any) -> Any:
    """Convert, but kill the own process the first time that one series comes by."""
    mark = os.environ["IXR_TEST_MARK"]
    if task.output.startswith("3_"):
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return batch.convert_one(task, **how)


def test_each_series_has_an_output_of_its_own(tmp_path: Path) -> None:
    done = ixr.convert(heap(tmp_path / "in", 9), tmp_path / "out", format="nifti")
    assert repr(done) == "<Batch of 9 series: 9 written, 0 kept, 0 failed>"
    table = done.to_dataframe()
    assert table.output.is_unique
    assert (table.status == "written").all()
    values = sorted(float(ixr.open_series(file).max()) for file in (tmp_path / "out").rglob("*.nii.gz"))
    assert values == list(range(9))
    done.raise_for_failed()


def test_threads_leave_warnings_on(tmp_path: Path) -> None:
    source = heap(tmp_path / "in", 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        ixr.convert(source, tmp_path / "out", format="nifti", jobs=4, workers="threads")
        caught.clear()
        warnings.warn("of something else", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["of something else"]


def test_names_tell_nothing_of_the_patient(tmp_path: Path) -> None:
    ixr.convert(heap(tmp_path / "in", 3), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [NAME, lock.NAME, "1_scan_0", "2_scan_1", "3_scan_2"]
    assert "Doe" not in (tmp_path / "out" / NAME).read_text()


def test_series_of_the_same_name(tmp_path: Path) -> None:
    for k in range(3):
        write_series(tmp_path / "in" / str(k), series=f"s{k}", number=1)
    done = ixr.convert(tmp_path / "in", tmp_path / "out")
    assert len({result.output for result in done.results}) == 3
    assert not done.failed


@pytest.mark.filterwarnings("ignore:The value length")
def test_long_names_of_letters_that_take_several_bytes(tmp_path: Path) -> None:
    told = {"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "\N{CJK UNIFIED IDEOGRAPH-8133}" * 64}
    write_series(tmp_path / "in", slices=2, tags={**told, "SeriesDescription": told["SeriesDescription"] + "x" * 30})
    (result,) = ixr.convert(tmp_path / "in", tmp_path / "out").results
    assert result.status == "written", result.reason
    image = ixr.open_series(tmp_path / "in")
    # 240 bytes, of 255 that a name may have.
    image.dicom.write(tmp_path / told["SeriesDescription"] / ("\N{CJK UNIFIED IDEOGRAPH-8133}" * 80))


def test_no_two_series_have_one_name() -> None:
    taken = {"1_scan", "1_SCAN_" + digest("B")[:8]}
    assert _free("1_scan", "B", taken).lower() not in {name.lower() for name in taken}


def test_the_rest_goes_on(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "uneven", series="bad", gaps=[3.0, 6.0, 1.0], number=77)
    source = heap(tmp_path / "in", 4)
    cut = next((source / "2").iterdir())
    cut.write_bytes(cut.read_bytes()[:-10])
    done = ixr.convert(source, tmp_path / "out", format="nifti")
    reasons = {result.output.rpartition("/")[2]: result.reason for result in done.failed}
    errors = {result.output.rpartition("/")[2]: result.error for result in done.results}
    assert errors.pop("") == errors.pop("3_scan_2") == "UnreadableFileError"
    assert errors.pop(next(name for name in errors if name.startswith("77"))) == "GeometryError"
    assert set(errors.values()) == {""}
    assert "uneven" in next(reason for name, reason in reasons.items() if name.startswith("77"))
    assert "cut short" in reasons[""]
    assert not list((tmp_path / "out").glob("77*"))
    assert next(reason for name, reason in reasons.items() if name.startswith("3_")).startswith(f"{cut}, which is of")
    assert not list((tmp_path / "out").glob("3_*")), "it would look whole without its last slice"
    with pytest.raises(ixr.errors.BatchError, match=r"3 of 6 series were not converted; [^: ]"):
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
    monkeypatch.setenv("IXR_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(batch, "convert_one", killed_once)
    source = heap(tmp_path / "in", 300)
    with two_processes() as client:
        done = ixr.convert(source, tmp_path / "out", format="nifti", client=client)
    assert (tmp_path / "mark").exists()
    assert repr(done) == "<Batch of 300 series: 300 written, 0 kept, 0 failed>"
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 300
    values = {int(ixr.open_series(result.output).max()) for result in done.results[::10]}
    assert len(values) == 30


def counted_and_killed_once(task: batch.Task, folder: str, **how: Any) -> Any:
    """Convert, note it, and kill the own process once some series are done; those that the record has then are kept."""
    with open(os.environ["IXR_TEST_COUNT"], "a") as file:
        file.write(f"{task.output}\n")

    def finished() -> list[str]:
        lines = map(json.loads, (Path(folder) / NAME).read_text().splitlines())
        return [line["output"] for line in lines if "files" in line]

    mark = Path(os.environ["IXR_TEST_MARK"])
    if len(done := finished()) >= 10:
        try:
            with mark.open("x") as file:
                json.dump(done, file)
        except FileExistsError:
            pass
        else:
            # The scheduler is told of those that are done a little later, and in their order.
            while len(finished()) < len(done) + 3:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
    return batch.convert_one(task, folder, **how)


def test_what_is_done_is_not_done_again_where_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IXR_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("IXR_TEST_COUNT", str(tmp_path / "count"))
    monkeypatch.setattr(batch, "convert_one", counted_and_killed_once)
    source = heap(tmp_path / "in", 30)
    with two_processes() as client:
        done = ixr.convert(source, tmp_path / "out", client=client)
    assert repr(done) == "<Batch of 30 series: 30 written, 0 kept, 0 failed>"
    counted = (tmp_path / "count").read_text().split()
    assert len(counted) > 30, "one was under way"
    kept = json.loads((tmp_path / "mark").read_text())
    assert not [output for output in kept if counted.count(output) > 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == [NAME, lock.NAME]


_CLUSTER = """
import os, sys
from tests.cluster import local_cluster
cluster = local_cluster(n_workers=0, processes=False)
print(cluster.scheduler_address, flush=True)
sys.stdin.readline()
cluster.scale(1)
sys.stdin.readline()
os._exit(0)
"""
"""A cluster that gets a worker with the first line that it is sent, and is gone with the second."""


@pytest.mark.slow
def test_a_cluster_that_has_no_workers_yet_and_then_goes_away(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    source, out = heap(tmp_path / "in", 60), tmp_path / "out"
    cluster = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=Path(__file__).parents[1],
    )

    def start_and_end() -> None:
        wait_for(lambda: bool(told.list))
        cluster.stdin.write("start\n")
        wait_for(lambda: len(list(out.glob("[0-9]*_scan_*"))) >= 3)
        cluster.stdin.write("end\n")

    def connected(address: str) -> Any:
        """Return a client that soon sees that the scheduler is gone, though the machine may be slow to connect it."""
        for _ in range(20):
            with suppress(OSError):
                return distributed.Client(address, timeout=3)
        return distributed.Client(address, timeout=3)

    def wait_for(is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not is_so() and time.monotonic() < until:
            time.sleep(0.02)

    thread = threading.Thread(target=start_and_end)
    with cluster, connected(cluster.stdout.readline().strip()) as client:
        with pytest.warns(UserWarning, match="the cluster has no workers: waiting for some") as told:  # noqa: PT031 - it is waited for
            thread.start()
            done = ixr.convert(source, out, client=client)
        thread.join()
    assert {result.status for result in done.results} == {"written", "failed"}
    assert {result.reason for result in done.failed} == {
        "the cluster gave it up: its scheduler went away, or it was cancelled there"
    }
    assert not ixr.convert(source, out).failed


def test_a_worker_that_outlives_its_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a cluster does that Ctrl-C does not reach: the next run may convert in another way."""
    source, out = one(tmp_path / "in"), tmp_path / "out"
    convert_one, sent = batch.convert_one, []

    def interrupted(task: batch.Task, **how: Any) -> Any:
        sent.append(partial(convert_one, task, **how))
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "convert_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ixr.convert(source, out)
    monkeypatch.setattr(batch, "convert_one", convert_one)
    assert "the run that it is of has ended" in str(sent[0]())
    assert {path.name for path in out.iterdir()} == {NAME, lock.NAME}
    assert status(ixr.convert(source, out, order="time")) == ["written"]
    assert "the run that it is of has ended" in str(sent[0]())
    assert status(ixr.convert(source, out, order="time")) == ["kept"]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 40), tmp_path / "out"
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""\
        import os, time
        import imagedata_xr as ixr
        fsync = os.fsync
        def slowly(handle):  # as on a slow disk: the run is not over before the signal comes
            time.sleep(0.05)
            fsync(handle)
        os.fsync = slowly
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
    # The last one may be there, and not in the record yet.
    while len(list(out.glob("[0-9]*_scan_*"))) < 4 and time.monotonic() < until:
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


def one(path: Path, name: str = "s", **options: Any) -> Path:
    """Write a series that has the same number and description as all others that this writes."""
    told = {"SeriesDescription": "scan", "PatientID": name}
    write_series(path, slices=3, rows=4, cols=4, tags=told, **{"series": name, "study": name, **options})
    return path


def status(done: ixr.batch.Batch) -> list[str]:
    return [result.status for result in done.results]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, out = one(tmp_path / "a", "a"), one(tmp_path / "b", "b"), tmp_path / "out"
    convert_one = batch.convert_one

    def meanwhile(task: batch.Task, **how: Any) -> Any:
        monkeypatch.setattr(batch, "convert_one", convert_one)
        with pytest.raises(ixr.errors.BatchError, match=r"another conversion is writing to .*out: wait for it, or"):
            ixr.convert(b, out)
        return convert_one(task, **how)

    monkeypatch.setattr(batch, "convert_one", meanwhile)
    assert status(ixr.convert(a, out)) == ["written"]
    assert status(ixr.convert(b, out)) == ["written"]
    found = [ixr.open_series(path).PatientID for path in out.iterdir() if path.is_dir()]
    assert sorted(found) == ["a", "b"]


def test_a_killed_run_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code = (
        "import pathlib, time; from imagedata_xr.lock import locked\n"
        f"with locked(pathlib.Path({str(tmp_path / 'out')!r})): print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(ixr.errors.BatchError):
        ixr.convert(one(tmp_path / "a"), tmp_path / "out")
    process.kill()
    process.communicate()
    assert status(ixr.convert(tmp_path / "a", tmp_path / "out")) == ["written"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks in another way")
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match=r"out has no locks: see to it that no other") as caught:
        assert status(ixr.convert(one(tmp_path / "a"), tmp_path / "out")) == ["written"]
    assert caught[0].filename == __file__


def test_an_output_that_two_series_claim(tmp_path: Path) -> None:
    heap, out = tmp_path / "in", tmp_path / "out"
    for name in "ab":
        one(heap / name, name, values=lambda t, z, name=name: np.full((4, 4), ord(name)))
        ixr.convert(heap / name, tmp_path / name, format="itk")
    lines = [(tmp_path / name / NAME).read_text().splitlines() for name in "ab"]
    # What two runs at once have left: the output of the second, of the same size, under the name of both.
    out.mkdir()
    (tmp_path / "b" / "1_scan").rename(out / "1_scan")
    (out / NAME).write_text("\n".join(line for of_both in zip(*lines, strict=True) for line in of_both) + "\n")
    (out / "1_scan" / "mask.mha").touch()
    assert sorted(status(ixr.convert(heap, out, format="itk"))) == ["failed", "written"]
    (out / "1_scan" / "mask.mha").unlink()
    done = ixr.convert(heap, out, format="itk")
    assert sorted(status(done)) == ["kept", "written"]
    assert len({result.output for result in done.results}) == 2
    assert {float(ixr.open_series(result.output).max()) for result in done.results} == {ord("a"), ord("b")}
    assert status(ixr.convert(heap, out, format="itk")) == ["kept", "kept"]


def test_a_manifest_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    ixr.convert(one(tmp_path / "a"), tmp_path / "out")
    (tmp_path / "out" / "1_scan").rename(tmp_path / "theirs")
    text = (tmp_path / "out" / NAME).read_text().replace("1_scan", "../theirs")
    (tmp_path / "out" / NAME).write_text(text)
    assert Manifest(tmp_path / "out").outputs == set()


def test_what_was_put_into_an_output_stays(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out, format="nifti")
    before = names(out)
    for mask in (out / "1_scan" / "tumour_mask.nii.gz", out / "1_scan" / "more" / "mask"):
        mask.parent.mkdir(exist_ok=True)
        mask.write_text("hours of work")
        os.utime(next(source.iterdir()), ns=(1, mask.stat().st_mtime_ns))
        (failed,) = ixr.convert(source, out, format="nifti").failed
        assert (
            f"1_scan holds {mask.relative_to(out / '1_scan')}, which is not of an earlier run: move it" in failed.reason
        )
        assert names(out) == sorted([*before, mask.relative_to(out).as_posix()])
        mask.unlink()
    (out / "1_scan" / "link").symlink_to(tmp_path, target_is_directory=True)
    assert "holds link" in ixr.convert(source, out, format="nifti").failed[0].reason
    (out / "1_scan" / "link").unlink()
    assert status(ixr.convert(source, out, format="nifti")) == ["written"]
    assert status(ixr.convert(source, out, format="nifti")) == ["kept"]


def test_a_series_that_failed_has_left_nothing_that_may_be_replaced(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in", gaps=[3.0, 9.0]), tmp_path / "out"
    assert status(ixr.convert(source, out, format="nifti")) == ["failed"]
    # By hand, under the name that the output would have too.
    (out / "1_scan").mkdir()
    (out / "1_scan" / "image.nii.gz").write_text("mine")
    one(source)
    (failed,) = ixr.convert(source, out, format="nifti").failed
    assert "1_scan, with image.nii.gz in it, is not of an earlier run: move it" in failed.reason
    assert (out / "1_scan" / "image.nii.gz").read_text() == "mine"


def test_a_conversion_that_fails_forgets_nothing(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out, format="nifti")
    kept = {file: (file.read_bytes(), file.stat()) for file in source.iterdir()}
    one(source, gaps=[3.0, 9.0])
    assert status(ixr.convert(source, out, format="nifti")) == ["failed"]
    for file, (data, told) in kept.items():
        file.write_bytes(data)
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert status(ixr.convert(source, out, format="nifti")) == ["kept"]


def test_a_run_that_was_killed_before_it_noted_an_output(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out, format="nifti")
    begun = (out / NAME).read_text().splitlines(keepends=True)[0]
    (out / NAME).write_text(begun)
    assert "other settings" in ixr.convert(source, out).failed[0].reason
    assert status(ixr.convert(source, out, format="nifti")) == ["written"]
    (out / NAME).write_text(begun)
    (out / "1_scan" / "mask").touch()
    assert "holds mask" in ixr.convert(source, out, format="nifti").failed[0].reason


def test_a_run_that_was_killed_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out, format="itk")
    kept = {file: (file.read_bytes(), file.stat()) for file in source.iterdir()}
    first = (out / NAME).read_text()
    one(source, values=lambda t, z: np.full((4, 4), 7))
    ixr.convert(source, out, format="itk")  # an output of the same size, which is not noted:
    (out / NAME).write_text(first + (out / NAME).read_text().splitlines(keepends=True)[2])
    one(source, gaps=[3.0, 9.0])
    assert status(ixr.convert(source, out, format="itk")) == ["failed"]
    for file, (data, told) in kept.items():
        file.write_bytes(data)
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    (written,) = ixr.convert(source, out, format="itk").results
    assert written.status == "written"
    assert float(ixr.open_series(written.output).max()) != 7


def test_another_format_replaces_nothing(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out, format="nifti")
    before = names(out)
    for settings in ({"format": "dicom"}, {"format": "nifti", "order": "none"}, {"format": "nifti", "resample": True}):
        (failed,) = ixr.convert(source, out, **settings).failed
        assert "was made with other settings: move it, or convert to another folder" in failed.reason
    assert names(out) == before
    assert status(ixr.convert(source, out, format="nifti")) == ["kept"]
    (out / "1_scan").rename(tmp_path / "moved")
    assert status(ixr.convert(source, out)) == ["written"]


def test_a_series_split_over_folders(tmp_path: Path) -> None:
    for k, file in enumerate(write_series(tmp_path / "whole", slices=6)):
        part = tmp_path / ("jan" if k < 3 else "feb")
        part.mkdir(exist_ok=True)
        file.rename(part / f"{k}.dcm")
    jan, feb, out = tmp_path / "jan", tmp_path / "feb", tmp_path / "out"
    assert status(ixr.convert(jan, out)) == ["written"]
    (failed,) = ixr.convert(feb, out).failed
    assert "was made of other files: move it, or convert to another folder" in failed.reason
    assert len(list(out.rglob("*.dcm"))) == 3
    assert status(ixr.convert([jan, feb], out)) == ["written"]
    assert len(list(out.rglob("*.dcm"))) == 6
    assert str(jan) not in (out / NAME).read_text()
    assert "other files" in ixr.convert(jan, out).failed[0].reason


def test_a_manifest_of_an_earlier_version(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out)
    begun, finished = (json.loads(line) for line in (out / NAME).read_text().splitlines())
    begun = {name: begun[name] for name in ("version", "series", "output")}
    (out / NAME).write_text(f"{json.dumps(begun)}\n{json.dumps(finished)}\n")
    assert status(ixr.convert(source, out)) == ["kept"]
    assert "other settings" in ixr.convert(source, out, format="nifti").failed[0].reason
    os.utime(next(source.iterdir()), ns=(1, 1))
    assert status(ixr.convert(source, out)) == ["written"]
    # It was begun, and that is all it tells.
    (out / NAME).write_text(f"{json.dumps(begun)}\n")
    assert status(ixr.convert(source, out)) == ["written"]
    assert status(ixr.convert(source, out)) == ["kept"]


def test_a_heap_that_was_moved_or_renamed_is_the_same(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 2), tmp_path / "out"
    assert status(ixr.convert(source, out)) == ["written"] * 2
    source.rename(tmp_path / "moved")
    assert status(ixr.convert(tmp_path / "moved", out)) == ["kept"] * 2
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    file = next((tmp_path / "moved" / "1").iterdir())
    file.rename(file.with_name("other"))
    assert status(ixr.convert(tmp_path / "link", out)) == ["kept"] * 2


def test_sources_from_a_generator(tmp_path: Path) -> None:
    heap(tmp_path / "in", 2)
    assert status(ixr.convert(tmp_path.joinpath("in").glob("*"), tmp_path / "out")) == ["written"] * 2  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_outputs_that_one_may_only_read_are_kept(not_root: Path) -> None:
    source, out = heap(not_root / "in", 2), not_root / "out"
    ixr.convert(source, out)
    drop_rights()
    assert status(ixr.convert(source, out)) == ["kept"] * 2


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("name", ["out", "out/new"])
def test_an_output_folder_that_one_may_only_read(not_root: Path, name: str) -> None:
    source = heap(not_root / "in", 2)
    (not_root / "out").mkdir()
    drop_rights()
    with pytest.raises(PermissionError, match=name):
        ixr.convert(source, not_root / name)
    assert not names(not_root / "out")


def test_a_template_counts_by_what_it_holds(tmp_path: Path) -> None:
    source, out, like = one(tmp_path / "in"), tmp_path / "out", one(tmp_path / "like", "t")
    template = ixr.open_series(like)
    assert status(ixr.convert(source, out, template=template)) == ["written"]
    assert status(ixr.convert(source, out, template=ixr.open_series(like))) == ["kept"]
    renamed = template.assign_attrs(PatientID="zz")
    assert "other settings" in ixr.convert(source, out, template=renamed).failed[0].reason
    moved = template.assign_coords(slice=template.slice + 1)
    assert "other settings" in ixr.convert(source, out, template=moved).failed[0].reason


def test_a_template_folder_counts_by_its_files(tmp_path: Path) -> None:
    source, out, like = one(tmp_path / "in"), tmp_path / "out", one(tmp_path / "like", "t")
    assert status(ixr.convert(source, out, template=like)) == ["written"]
    assert status(ixr.convert(source, out, template=str(like))) == ["kept"]
    for file in one(tmp_path / "other", "u").iterdir():
        file.replace(like / file.name)
    assert "other settings" in ixr.convert(source, out, template=like).failed[0].reason
    assert status(ixr.convert(source, tmp_path / "more", template="phantom")) == ["written"]
    assert status(ixr.convert(source, tmp_path / "more", template="phantom")) == ["kept"]


def test_settings_are_the_same_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "told.py"
    script.write_text(
        textwrap.dedent("""\
        import sys
        import imagedata_xr as ixr
        from imagedata_xr.plan import settings_of
        template = ixr.open_series(sys.argv[1])
        print(settings_of("dicom", {"time": lambda header: 1.0}, {"template": template, "window": (1, 2)}))
        assert not template.variable._in_memory
        """)
    )
    command = [sys.executable, script, one(tmp_path / "like")]
    told = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(told) == 1
    # As earlier versions noted them.
    assert settings_of("nifti", "auto", {"resample": True}) == digest("nifti", "auto", [("resample", True)])


@pytest.mark.parametrize("through_a_link", [False, True])
def test_outputs_in_the_source(tmp_path: Path, through_a_link: bool) -> None:
    source = heap(tmp_path / "in", 2)
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    out = (tmp_path / "link" if through_a_link else source) / "out"
    assert status(ixr.convert(source, out)) == ["written"] * 2
    assert status(ixr.convert(source, out)) == ["kept"] * 2
    assert status(ixr.convert([source / "0", source], out, index=out / "index")) == ["kept"] * 2
    assert status(ixr.convert(out / "1_scan_0", out / "again")) == ["written"]
    # A source beside the outputs is one.
    assert status(ixr.convert(source / "0", source)) == ["written"]


def test_the_source_is_not_where_outputs_go(tmp_path: Path) -> None:
    source = heap(tmp_path / "in", 2)
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    before = names(source)
    for sources, out in ((source, source), ([source / "0", source], tmp_path / "link"), (tmp_path / "link", source)):
        with pytest.raises(ValueError, match="is what is converted: give another folder"):
            ixr.convert(sources, out)
    assert names(source) == before


def test_a_damaged_store_is_made_again(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    (written,) = ixr.convert(source, out, format="zarr").results
    assert written.files == len(names(out / "1_scan"))
    assert status(ixr.convert(source, out, format="zarr")) == ["kept"]
    chunk = next(path for path in (out / "1_scan" / "image.zarr" / "image" / "c").rglob("*") if path.is_file())
    chunk.unlink()
    assert status(ixr.convert(source, out, format="zarr")) == ["written"]
    assert chunk.is_file()
    # Earlier versions noted the folder of the store.
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    lines[-1]["files"] = [["1_scan/image.zarr", (out / "1_scan" / "image.zarr").stat().st_size]]
    (out / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert status(ixr.convert(source, out, format="zarr")) == ["written"]


@pytest.mark.parametrize("how", ["at once", "empty before", "earlier"])
def test_an_output_that_another_has_written_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its files have the names that ours would have, and may be of another patient."""
    source, other, out = one(tmp_path / "a", "a"), ixr.open_series(one(tmp_path / "b", "b")), tmp_path / "out"
    if how == "earlier":
        ixr.convert(source, out)
        shutil.rmtree(out / "1_scan")
    elif how == "empty before":
        (out / "1_scan").mkdir(parents=True)
    convert_one = batch.convert_one

    def meanwhile(task: batch.Task, **how: Any) -> Any:
        ixr.write(other, out / "1_scan")
        return convert_one(task, **how)

    monkeypatch.setattr(batch, "convert_one", meanwhile)
    (failed,) = ixr.convert(source, out).failed
    assert "1_scan holds 00001.dcm, which is not of an earlier run: move it" in failed.reason
    assert ixr.open_series(out / "1_scan").PatientID == "b"
    assert {path.name for path in out.iterdir()} == {NAME, lock.NAME, "1_scan"}


def converted_and_killed(task: batch.Task, **how: Any) -> Any:
    """Convert, and kill the own process before it can tell, the first two times."""
    outcome = batch.convert_one(task, **how)
    marks = Path(os.environ["IXR_TEST_MARK"])
    if task.output.startswith("1_") and len(list(marks.iterdir())) < 2:
        (marks / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome


def test_an_output_of_a_process_that_was_killed_before_it_told_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marks").mkdir()
    monkeypatch.setattr(batch, "convert_one", converted_and_killed)
    monkeypatch.setenv("IXR_TEST_MARK", str(tmp_path / "marks"))
    done = ixr.convert(heap(tmp_path / "in", 2), tmp_path / "out", jobs=2)
    assert len(list((tmp_path / "marks").iterdir())) == 2
    assert status(done) == ["written"] * 2, [result.reason for result in done.failed]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == [NAME, lock.NAME]


@pytest.mark.parametrize("what", ["record", "folder"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_record_that_goes_away_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    """In a folder of the same name the run would go on, with nothing in the record of what it had written before."""
    source, out = heap(tmp_path / "in", 3), tmp_path / "out"
    convert_one = batch.convert_one

    def meanwhile(task: batch.Task, **how: Any) -> Any:
        outcome = convert_one(task, **how) if when == "after" else None
        if not (tmp_path / "moved").exists():
            (out / NAME if what == "record" else out).rename(tmp_path / "moved")
        return outcome or convert_one(task, **how)

    monkeypatch.setattr(batch, "convert_one", meanwhile)
    with pytest.raises(ixr.errors.BatchError, match=r"jsonl was removed or moved while outputs were written: put it"):
        ixr.convert(source, out)
    monkeypatch.undo()
    if what == "record":
        (tmp_path / "moved").rename(out / NAME)
    else:
        assert not out.exists()
        (tmp_path / "moved").rename(out)
    assert status(ixr.convert(source, out)) == ["written"] * 3
    assert status(ixr.convert(source, out)) == ["kept"] * 3


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("number", [1, 2])
def test_files_that_become_those_of_another_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, number: int
) -> None:
    """They would be written under the name of the series that was listed, and count as it."""
    source, out = one(tmp_path / "in", "a"), tmp_path / "out"
    files, others = sorted(source.iterdir()), sorted(one(tmp_path / "b", "b", number=number).iterdir())
    convert_one = batch.convert_one

    def meanwhile(task: batch.Task, **how: Any) -> Any:
        for file, other in zip(files[:count], others, strict=False):
            shutil.copy(other, file)
        return convert_one(task, **how)

    monkeypatch.setattr(batch, "convert_one", meanwhile)
    (failed,) = ixr.convert(source, out, format="nifti").failed
    assert "files have changed since the sources were listed, and series " in failed.reason
    assert failed.error == "UnreadableFileError"
    assert {path.name for path in out.iterdir()} == {NAME, lock.NAME}
    monkeypatch.undo()
    again = ixr.convert(source, out, format="nifti")
    assert {result.series for result in again.results} == {ixr.open_series(file).SeriesInstanceUID for file in files}
    assert not again.failed


def test_a_warning_is_no_failure(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source, index = one(tmp_path / "in"), tmp_path / "index"
    ixr.scan(source, index=index)
    part = next(index.glob("part*"))
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="is damaged"):
        done = ixr.convert(source, tmp_path / "out", index=index)
    assert status(done) == ["written"]


@pytest.mark.parametrize("how", [{}, {"jobs": 2}, {"jobs": 2, "workers": "threads"}])
def test_what_is_warned_of_is_told(tmp_path: Path, how: dict[str, Any]) -> None:
    """A mean is of the slices that are there, also of a series that is one of many."""
    whole = {"rows": 4, "cols": 4, "tags": {"SeriesDescription": "scan"}}
    write_series(tmp_path / "in" / "whole", series="whole", number=2, slices=5, **whole)
    write_series(tmp_path / "in" / "gap", series="gap", slices=6, gaps=[3.0, 3.0, 6.0, 3.0, 3.0], **whole)
    with pytest.warns(UserWarning, match="1 slice seems to be missing") as caught:
        done = ixr.convert(tmp_path / "in", tmp_path / "out", **how)
    assert status(done) == ["written"] * 2
    assert len(caught) == 1
    if how.get("workers") != "threads":
        assert str(caught[0].message).startswith(f"{tmp_path / 'out' / '1_scan'}")
        assert caught[0].filename == __file__


def test_an_output_folder_that_is_a_file_or_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        for out in (tmp_path / name, tmp_path / name / "below" / "out"):
            with pytest.raises(ValueError, match=f"{name} is there and no folder: give another one"):
                ixr.convert(one(tmp_path / "a"), out)


def test_a_heap_with_copies(tmp_path: Path) -> None:
    source, out = one(tmp_path / "heap" / "a"), tmp_path / "out"
    shutil.copytree(source, tmp_path / "heap" / "copy")
    (result,) = ixr.convert(tmp_path / "heap", out).results
    assert "Take one of each with duplicates='first'" in result.reason
    assert status(ixr.convert(tmp_path / "heap", out, duplicates="first")) == ["written"]
    assert status(ixr.convert(tmp_path / "heap", out, duplicates="first")) == ["kept"]
    np.testing.assert_array_equal(ixr.open_series(out), ixr.open_series(source))


@pytest.mark.parametrize(
    "out", ["memory://bucket/out", "file:///out", "out.zip", "out.tar.gz", "brain.nii.gz", "a.zarr"]
)
def test_outputs_go_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    monkeypatch.chdir(tmp_path)
    one(tmp_path / "in")
    with pytest.raises(ValueError, match=f"{out} is no folder.*give a folder of this machine"):
        ixr.convert("in", out, format="nifti")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_link_to_an_output_stays_one(tmp_path: Path) -> None:
    source, out, real = one(tmp_path / "in"), tmp_path / "out", tmp_path / "disk2" / "ct"
    ixr.convert(source, out)
    real.parent.mkdir()
    (out / "1_scan").rename(real)
    (out / "1_scan").symlink_to(real, target_is_directory=True)
    assert status(ixr.convert(source, out)) == ["kept"]
    one(source)
    (real.parent / ".ct.0123456789ab.new").mkdir()  # of a run that was killed
    assert status(ixr.convert(source, out)) == ["written"]
    assert (out / "1_scan").is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["ct"]
    assert sorted(path.name for path in out.iterdir()) == [NAME, lock.NAME, "1_scan"]
    assert status(ixr.convert(source, out)) == ["kept"]


@pytest.mark.parametrize("leads_to", ["disk2/ct", "out/1_scan"])
def test_an_output_that_is_a_link_to_nothing(tmp_path: Path, leads_to: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1_scan").symlink_to(tmp_path / leads_to)
    (failed,) = ixr.convert(one(tmp_path / "in"), tmp_path / "out").failed
    assert failed.reason.endswith(
        f"1_scan is a link to {tmp_path / leads_to}, which is not there: move it, or convert to another folder"
    )
    assert failed.error == "FileExistsError"
    assert not (tmp_path / "disk2").exists()


def test_a_file_under_the_name_of_an_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1_scan").write_text("mine")
    (failed,) = ixr.convert(one(tmp_path / "in"), tmp_path / "out").failed
    assert "1_scan is a file: move it" in failed.reason
    assert (tmp_path / "out" / "1_scan").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes among the files")
@pytest.mark.parametrize("name", [NAME, lock.NAME])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_under_the_name_of_one_of_ours(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """A pipe would be waited for, and for ever: so in a process that can be ended."""
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / name)
    source, out = one(tmp_path / "in"), tmp_path / "out"
    code = f"import imagedata_xr as ixr; ixr.convert({str(source)!r}, {str(out)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert f"BatchError: {out / name} is no file, and one of this name is kept there: move it" in run.stderr
    assert not list(out.glob("1_scan"))


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"no option SeriesNumber=.*image\.assign_attrs\(SeriesNumber="):
        ixr.convert(tmp_path, tmp_path / "out", SeriesNumber=3)
    with pytest.raises(ValueError, match="format='bmp' is not known"):
        ixr.convert(tmp_path, tmp_path / "out", format="bmp")
    with pytest.raises(ValueError, match="workers='fibres'"):
        ixr.convert(tmp_path, tmp_path / "out", workers="fibres")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ValueError, match="missing='nothing': it is 'error' or 'fill'"):
        ixr.convert(tmp_path, tmp_path / "out", missing="nothing")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ixr.errors.OrderError, match=r"order 'tme': .*; 'time' may be meant"):
        ixr.convert(tmp_path / "nowhere", tmp_path / "out", order="tme")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere"):
        with pytest.raises(FileNotFoundError):
            ixr.convert(tmp_path / source, tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"], "nothing is made for nothing"


def children(process: subprocess.Popen[Any]) -> list[int]:
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in told.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are told in another way")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_run(tmp_path: Path, sent: signal.Signals) -> None:
    source, out = heap(tmp_path / "in", 60), tmp_path / "out"
    command = [sys.executable, "-m", "image_data", "convert", "--resume", "--jobs", "2", out, source]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while len(list(out.glob("[0-9]*_scan_*"))) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    workers = children(process)
    assert len(workers) >= 2
    # Ctrl-C goes to all that run in the terminal.
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    _, told = process.communicate(timeout=60)
    until = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not [pid for pid in workers if is_running(pid)]
    if sent != signal.SIGKILL:
        how = "interrupted" if sent == signal.SIGINT else "ended by SIGTERM"
        assert (process.returncode, told) == (128 + sent, f"image_data: {how}\n")
        assert not [path for path in out.iterdir() if path.name.endswith((".new", ".part"))]
    done = status(ixr.convert(source, out))
    assert done.count("kept") >= 1
    assert done.count("kept") + done.count("written") == 60
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == {NAME, lock.NAME}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are told in another way")
@pytest.mark.parametrize(
    ("sent", "send"),
    [(signal.SIGINT, os.kill), (signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg), (signal.SIGHUP, os.killpg)],
)
def test_processes_that_end_early_leave_no_unpacked_archive(
    tmp_path: Path, sent: signal.Signals, send: Callable[[int, int], None]
) -> None:
    """Also where the signal goes to all of a job, as schedulers of clusters and `timeout` send it."""
    archive = shutil.make_archive(str(tmp_path / "heap"), "gztar", heap(tmp_path / "in", 60))
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "image_data", "convert", "--resume", "--jobs", "2", out, archive],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary)},
        process_group=0,
        # Where the tests run in the background, or below nohup, it would be ignored.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while len(list(out.glob("[0-9]*_scan_*"))) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    assert list(temporary.glob("*.tar"))
    workers = children(process)
    send(process.pid, sent)
    send(process.pid, sent)  # twice, as some do
    assert process.wait(60) == 128 + sent
    while any(map(is_running, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not list(temporary.iterdir())


def test_what_a_killed_run_has_left_is_removed_or_put_back(tmp_path: Path) -> None:
    source, out = heap(tmp_path / "in", 2), tmp_path / "out"
    ixr.convert(source, out)
    first, second = sorted(path for path in out.iterdir() if path.is_dir())
    write_series(source / "1", slices=3, rows=4, cols=4, series="s1", number=2, tags={"SeriesDescription": "scan 1"})
    write_series(source / "0", slices=3, rows=4, cols=4, series="s0", number=1, tags={"SeriesDescription": "scan 0"})
    # As it was while they were replaced: with the old output, here with a user's file in it, under another name.
    (second / "mine.txt").touch()
    second.rename(out / f".{second.name}.0123456789ab.old")
    shutil.copytree(first, out / f".{first.name}.0123456789ab.old")
    for name in (f".{first.name}.0123456789ab.new", f"..{first.name}.0123456789ab.new.ba9876543210.part"):
        shutil.copytree(first, out / name)
    (out / f".{first.name}.123.made").touch()
    shutil.copytree(first, out / f".{first.name}.more.0123456789ab.old")  # not ours
    done = ixr.convert(source, out)
    assert status(done) == ["written", "failed"]
    assert "mine.txt, which is not of an earlier run" in done.failed[0].reason
    assert (second / "mine.txt").exists()
    hidden = {path.name for path in out.iterdir() if path.name.startswith(".")}
    assert hidden == {NAME, lock.NAME, f".{first.name}.more.0123456789ab.old"}


def test_what_a_killed_run_has_left_beside_an_output_that_is_kept(tmp_path: Path) -> None:
    source, out = one(tmp_path / "in"), tmp_path / "out"
    ixr.convert(source, out)
    (out / ".1_scan.123.made").touch()
    assert status(ixr.convert(source, out)) == ["kept"]
    assert sorted(path.name for path in out.iterdir()) == [NAME, lock.NAME, "1_scan"]


@pytest.mark.parametrize("format", ["dicom", "mat"])
def test_a_reason_names_the_output_that_was_asked_for(tmp_path: Path, format: str) -> None:
    """And not the hidden name under which it was made, which is gone when somebody reads it."""
    heap(tmp_path / "in", 1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    code = f"""
import resource, signal, sys
import imagedata_xr as ixr
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
batch = ixr.convert({str(tmp_path / "in")!r}, {str(tmp_path / "out")!r}, format={format!r}, progress=False)
[result] = batch.results
print(result.reason, result.output, sep="\\n")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    reason, output = run.stdout.splitlines()
    assert "File too large" in reason
    assert reason.count(output) == 1
    assert reason.startswith(f"{output}: "), "the command then does not name it once more"
    assert ".new" not in reason


def test_a_disk_that_is_full_within_a_line_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = heap(tmp_path / "in", 2), tmp_path / "out"
    write, room = os.write, [40 + 12]  # the latter for the name of the run in the lock

    def full(handle: int, data: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= (count := write(handle, data[: room[0]]))
        return count

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device: .*\.imagedata_xr\.jsonl"):
            ixr.convert(source, out)
    assert len((out / NAME).read_bytes()) == 40
    assert status(ixr.convert(source, out)) == ["written"] * 2
    assert status(ixr.convert(source, out)) == ["kept"] * 2


def test_a_failure_of_any_kind_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    def first_is_special(header: Any) -> float:
        return float(header.SeriesNumber == 1 and header.NoSuchElement)

    done = ixr.convert(heap(tmp_path / "in", 3), tmp_path / "out", order={"x": first_is_special})
    assert sorted(status(done)) == ["failed", "written", "written"]
    assert "NoSuchElement" in done.failed[0].reason


def elsewhere(task: batch.Task, folder: str, **how: Any) -> Any:
    """Convert as a worker does on whose machine this is another folder."""
    own = os.environ["IXR_TEST_ROOT"]
    there = folder if task.output.startswith("1_") else f"{own}/{Path(folder).name}"
    return batch.convert_one(task, there, **how)


@pytest.mark.parametrize("is_there", [False, True])
def test_workers_that_see_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    source, out = heap(tmp_path / "in", 3), tmp_path / "out"
    (tmp_path / "other" / "out").mkdir(parents=True)
    if is_there:  # of an earlier run
        (tmp_path / "other" / "out" / NAME).touch()
    monkeypatch.setattr(batch, "convert_one", elsewhere)
    monkeypatch.setenv("IXR_TEST_ROOT", str(tmp_path / "other"))
    done = ixr.convert(source, out, jobs=2)
    assert sorted(status(done)) == ["failed", "failed", "written"]
    assert all("all workers have to see the same" in result.reason for result in done.failed)
    written = [name for name in names(tmp_path / "other") if name.endswith(".dcm")]
    assert bool(written) == is_there, "nothing of patients goes where nobody looks for it"
    monkeypatch.undo()
    assert sorted(status(ixr.convert(source, out))) == ["kept", "written", "written"]


def test_processes_that_cannot_start_say_what_a_script_needs(tmp_path: Path) -> None:
    code = f"import imagedata_xr as ixr; print(ixr.convert({str(heap(tmp_path / 'in', 2))!r}, 'out', jobs=2).results)"
    (tmp_path / "run.py").write_text(code)
    done = subprocess.run([sys.executable, "run.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.count("a script needs its work behind if __name__ ==") == 2


def test_functions_that_cannot_be_sent_to_processes(tmp_path: Path) -> None:
    how: dict[str, Any] = {"order": {"x": lambda header: header.SeriesNumber}, "jobs": 2}
    with pytest.raises(TypeError, match=r"cannot be sent to processes .*: name functions in a module, or workers="):
        ixr.convert(heap(tmp_path / "in", 2), tmp_path / "out", **how)
    assert status(ixr.convert(tmp_path / "in", tmp_path / "out", workers="threads", **how)) == ["written"] * 2
