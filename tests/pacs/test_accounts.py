"""Each instance is accounted for, whatever happens to its file, or to who sends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.uid import RLELossless

from imagedata_xr.errors import NotStoredError
from imagedata_xr.pacs.association import associate, context
from imagedata_xr.pacs.instances import file_and_head
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.receive import Receiver
from imagedata_xr.pacs.send import send
from imagedata_xr.pacs.whole import DamagedError, identity_of
from tests.generate import write_series
from tests.pacs.peers import MRImageStorage, archive
from tests.pacs.test_stow import service, takes_all

if TYPE_CHECKING:
    from pathlib import Path

    from imagedata_xr.pacs.report import Instance

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def data_set(path: str) -> bytes:
    data, begin = file_and_head(path)
    return data[begin:]


def interruptible() -> None:
    """Let an interrupt through that whoever started the tests may have blocked."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def test_a_file_that_is_cut_short_is_not_sent(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    uids = [uid_of(file) for file in files]
    files[1].write_bytes(files[1].read_bytes()[:-40])
    with archive() as pacs, pytest.raises(NotStoredError, match="cut short") as caught:
        send(files, pacs.url)
    assert pacs.received == [uids[0], *uids[2:]]
    assert [i.status for i in caught.value.report] == ["stored", "refused", "stored", "stored"]
    with service(takes_all) as (url, posted), pytest.raises(NotStoredError, match="cut short") as caught:
        send(files, url)
    assert [i.status for i in caught.value.report] == ["stored", "refused", "stored", "stored"]
    assert posted == [[files[n].read_bytes() for n in (0, 2, 3)]]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, RLELossless])
def test_wherever_a_data_set_is_cut_within_an_element_that_is_found(tmp_path: Path, syntax: str) -> None:
    (file,) = write_series(tmp_path / "in", slices=1, transfer_syntax=pydicom.uid.UID(syntax))
    data = data_set(str(file))
    assert identity_of(data, syntax) == identity_of(data + bytes(20), syntax) == (MRImageStorage, uid_of(file))
    found = 0
    for end in range(len(data)):
        try:
            identity_of(data[:end], syntax)
        except DamagedError:
            found += 1
    elements = len(pydicom.dcmread(file))
    assert found == len(data) - elements  # an end between two elements cannot be told


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_goes_away_is_told_and_the_rest_is_sent(tmp_path: Path, jobs: int) -> None:
    files = write_series(tmp_path / "in", slices=6)

    def remove(_: Any) -> None:
        files[4].unlink(missing_ok=True)

    with archive(before_answer=remove) as pacs, pytest.raises(NotStoredError, match="no such file") as caught:
        send(files, pacs.url, jobs=jobs)
    assert [i.path for i in caught.value.report.failed] == [str(files[4])]
    assert len(pacs.instances) == 5


def test_a_file_that_has_become_another_is_not_sent(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=3)

    def replace(_: Any) -> None:
        files[2].write_bytes(files[0].read_bytes())

    with archive(before_answer=replace) as pacs, pytest.raises(NotStoredError, match="has changed"):
        send(files, pacs.url)
    assert len(pacs.instances) == 2


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_is_raised_in_the_middle_says_what_is_stored(tmp_path: Path, error: type[Exception], jobs: int) -> None:
    files = write_series(tmp_path / "in", slices=6)
    so_far: list[Instance] = []

    def progress(count: int, _total: int) -> None:
        if count == 3:
            raise error

    with archive() as pacs, pytest.raises(error) as caught:
        send(files, pacs.url, jobs=jobs, progress=progress, so_far=so_far)
    stored = [i.uid for i in so_far if i.status == "stored"]
    assert len(so_far) == 6
    assert set(stored) <= pacs.instances.keys()
    assert 3 <= len(stored) <= len(pacs.instances) < 6
    (note,) = caught.value.__notes__
    assert f"{len(stored)} stored, {6 - len(stored)} unknown" in note
    so_far.clear()
    with service(takes_all) as (url, _), pytest.raises(ZeroDivisionError) as division:
        send(files, url, progress=lambda count, total: 1 // 0, so_far=so_far)
    assert "6 stored" in division.value.__notes__[0]
    assert [i.status for i in so_far] == ["stored"] * 6


def interrupted(run: subprocess.Popen[str], pacs: Any) -> tuple[str, str]:
    """Interrupt a process when it has sent three instances, and return what it says."""
    until = time.monotonic() + 60
    while len(pacs.received) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    return run.communicate(timeout=60)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_sending_that_is_interrupted_tells_what_is_stored(tmp_path: Path, options: list[str]) -> None:
    files = write_series(tmp_path / "in", slices=6)
    with archive(before_answer=lambda _: time.sleep(1 if len(pacs.received) > 2 else 0)) as pacs:
        command = [sys.executable, "-m", "image_data", "send", *options, pacs.url, *map(str, files)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
        ) as run:
            output, errors = interrupted(run, pacs)
    assert run.returncode == 130
    assert "interrupted" in errors
    assert f"not stored: {files[5]}: unknown" in errors
    if options:
        statuses = [instance["status"] for instance in json.loads(output)["instances"]]
        assert statuses == ["stored"] * 2 + ["unknown"] * 4
    else:
        assert output == f"{pacs.url}: 2 stored, 4 unknown\n"


def test_a_conversion_to_a_pacs_that_is_interrupted_tells_how_many_are_stored(tmp_path: Path) -> None:
    write_series(tmp_path / "in", slices=6)
    with archive(before_answer=lambda _: time.sleep(1 if len(pacs.received) > 2 else 0)) as pacs:
        command = [sys.executable, "-m", "image_data", pacs.url, str(tmp_path / "in")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible) as run:
            _, errors = interrupted(run, pacs)
    assert run.returncode == 130
    assert "6 instances were to be sent to ARCHIVE" in errors
    assert "2 stored, 4 unknown" in errors


def test_receiving_that_is_interrupted_tells_what_has_come(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    command = [sys.executable, "-m", "image_data", "receive", str(tmp_path / "out"), "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    ) as run:
        assert run.stderr is not None
        port = int(run.stderr.readline().split(" receives ")[0].rpartition(":")[2])
        send(files, Peer("127.0.0.1", port, "IMAGEDATA"))
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=30)
    assert run.returncode == 130
    document = json.loads(output)
    assert sorted(document["files"]) == sorted(map(str, (tmp_path / "out").iterdir()))
    assert (len(document["files"]), document["refused"]) == (4, 0)


def test_what_is_received_is_what_it_is_said_to_be(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "in", slices=1)
    data, uid = data_set(str(file)), uid_of(file)
    other = pydicom.uid.CTImageStorage
    deep = (b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 5000
    wanted = [
        (0xA900, MRImageStorage, "1.2.840.99.77", data),
        (0xA900, other, uid, data),
        (0xC000, MRImageStorage, uid, b"\xff" * 501),
        (0xC000, MRImageStorage, uid, data[:-30]),
        (0xC000, MRImageStorage, uid, deep),
        (0xA900, MRImageStorage, uid, bytes(500)),
        (0x0000, MRImageStorage, uid, data),
    ]
    with (
        Receiver(tmp_path / "out", port=0) as receiver,
        associate(receiver.peer, [context(MRImageStorage, [EXPLICIT]), context(other, [EXPLICIT])]) as link,
        link.paused(),
    ):
        ids = {accepted.abstract_syntax: accepted.context_id for accepted in link.accepted_contexts}
        for number, (code, sop_class, told, body) in enumerate(wanted):
            assert len(list((tmp_path / "out").iterdir())) == 0
            assert link.store(sop_class, told, ids[sop_class], body, number + 1) == code  # type: ignore[arg-type]
        assert (len(receiver.files), receiver.refused) == (1, 6)
