"""The receiver takes what it may, from whom it may, and lives through what it must not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    MRImageStorage,
)
from pynetdicom import AE

import imagedata_xr as ixr
from imagedata_xr.cli import main
from imagedata_xr.errors import NetworkError, NotStoredError
from imagedata_xr.pacs.echo import echo
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.receive import Receiver
from imagedata_xr.pacs.send import send
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Iterator


def resident() -> int:
    """Return the memory of this process [MiB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) >> 10


def test_what_is_received_is_what_was_sent(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=5)
    seen: list[Path] = []
    with Receiver(tmp_path / "out", port=0, arrived=seen.append) as receiver:
        assert echo(receiver.peer) < 5
        assert send(files, receiver.peer, jobs=3).summary == "20 stored"
        assert send(files, receiver.peer).summary == "20 stored"
        assert receiver.wait(20, 1)
    assert len(set(seen)) == 20
    assert sorted(receiver.files) == sorted((tmp_path / "out").iterdir())
    before, after = ixr.open_series(tmp_path / "in", "time"), ixr.open_series(tmp_path / "out", "time")
    assert (before.values == after.values).all()
    assert before.attrs == after.attrs
    with pytest.raises(NetworkError, match="refused"):
        echo(receiver.peer)


@pytest.mark.pacs
def test_dcmtk_can_send_to_it(tmp_path: Path) -> None:
    if "DCMTK" not in os.environ:
        pytest.skip("no dcmtk; run this by tests/pacs/with_servers.sh")
    storescu = str(Path(os.environ["DCMTK"], "storescu"))
    files = write_series(tmp_path / "in", times=2)
    with Receiver(tmp_path / "out", port=0) as receiver:
        command = [storescu, "-aec", "IMAGEDATA", "127.0.0.1", str(receiver.port), *map(str, files)]
        subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"}, timeout=60)
    assert len(receiver.files) == 8


def test_who_may_not_call_is_rejected(tmp_path: Path) -> None:
    with Receiver(tmp_path / "out", port=0, aet="INBOX", calling=["WARD"]) as receiver:
        assert echo(Peer("127.0.0.1", receiver.port, "INBOX", "WARD")) < 5
        with pytest.raises(NetworkError, match="calling"):
            echo(Peer("127.0.0.1", receiver.port, "INBOX", "OTHER"))
        with pytest.raises(NetworkError, match="called"):
            echo(Peer("127.0.0.1", receiver.port, "OTHER", "WARD"))
    with pytest.raises(ValueError, match="other machines"):
        Receiver(tmp_path / "out", port=0, host="0.0.0.0")


def test_what_cannot_be_listened_on_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "out")
    with Receiver(tmp_path / "other", port=0) as receiver:
        port = str(receiver.port)
        with pytest.raises(NetworkError, match=f"cannot listen on 127.0.0.1, port {port}: address already in use"):
            Receiver(folder, port=receiver.port)
        assert main(["receive", folder, "--port", port]) == 7
    assert main(["receive", folder, "--port", "0", "--host", "nowhere.invalid", "--calling", "A"]) == 7
    assert "cannot listen on nowhere.invalid, port 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "99999"], "port=99999"),
        (["--associations", "0"], "associations=0"),
        (["--timeout", "0"], "timeout=0"),
        (["--largest-total", "-1"], "largest_total=-"),
        (["--host", "0.0.0.0"], "give --calling"),
        (["--tls"], "needs --cert, --key and --ca"),
        (["--tls", "--cert", "no.crt", "--key", "no.key", "--ca", "no.pem"], "no.pem: No such file"),
    ],
)
def test_arguments_that_make_no_sense(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receive", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err


def test_limits_of_bytes_and_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = write_series(tmp_path / "in")
    size = files[0].stat().st_size
    with Receiver(tmp_path / "a", port=0, largest_total=5 * size // 2) as receiver, pytest.raises(NotStoredError) as e:
        send(files, receiver.peer)
    assert [i.code for i in e.value.report] == [0, 0, 0xA700, 0xA700]
    assert len(list((tmp_path / "a").iterdir())) == 2
    with Receiver(tmp_path / "b", port=0, keep_free=1 << 60) as receiver, pytest.raises(NotStoredError, match="0xA700"):
        send(files, receiver.peer)
    caplog.clear()
    with Receiver(tmp_path / "c", port=0, largest_instance=1000) as receiver, pytest.raises(NotStoredError) as e:
        send(files[:1], receiver.peer)
    assert "its peer sent a message of more than 1000 bytes" in caplog.text
    assert e.value.report[0].status == "unknown"
    assert not any(list((tmp_path / name).iterdir()) for name in "bc")


def test_a_folder_that_is_gone_is_out_of_resources(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    with Receiver(tmp_path / "out", port=0) as receiver:
        send(files[:1], receiver.peer)
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(NotStoredError) as caught:
            send(files[1:], receiver.peer)
        assert [i.code for i in caught.value.report] == [0xA700] * 3
        assert (len(receiver.files), receiver.refused) == (1, 3)
        (tmp_path / "out").mkdir()
        assert send(files[1:], receiver.peer).summary == "3 stored"


def test_what_a_callback_raises_is_raised_and_refuses_nothing(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    seen: list[Path] = []

    def fail(file: Path) -> None:
        seen.append(file)
        raise (KeyError if len(seen) == 1 else SystemExit)(file.name)

    receiver = Receiver(tmp_path / "out", port=0, arrived=fail)

    def receive() -> None:
        with receiver:
            assert send(files[:1], receiver.peer).summary == "1 stored"
            with pytest.raises(KeyError, match=r"\.dcm") as first:
                receiver.wait(2)
            assert first.value.__notes__ == [
                f"raised by arrived= of {seen[0]}, which is kept and confirmed to its sender"
            ]
            assert send(files, receiver.peer).summary == "4 stored"
            assert receiver.refused == 0

    with pytest.raises(SystemExit) as later:
        receive()
    assert sorted(receiver.files) == sorted((tmp_path / "out").iterdir()) == sorted(set(seen))
    assert later.value.__notes__[1] == "and for 3 other files it raised, too"


def test_what_a_callback_raises_does_not_hide_another_error(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "in", slices=1)

    def fail(file: Path) -> None:
        raise ValueError(file.name)

    def receive() -> None:
        with Receiver(tmp_path / "out", port=0, arrived=fail) as receiver:
            send(file, receiver.peer)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        receive()
    assert "arrived= or turned_away= raised ValueError" in caught.value.__notes__[0]


def test_another_instance_of_the_same_uid_does_not_replace_the_first(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "in", slices=1)
    with Receiver(tmp_path / "out", port=0) as receiver:
        send(file, receiver.peer)
        before = receiver.files[0].read_bytes()
        ds = pydicom.dcmread(file)
        ds.PatientName = "Other"
        ds.save_as(file)
        with pytest.raises(NotStoredError, match="duplicate"):
            send(file, receiver.peer)
        assert [f.read_bytes() for f in (tmp_path / "out").iterdir()] == [before]
        assert receiver.refused == 1


@pytest.mark.parametrize("uid", ["/etc/cron.d/evil", "../../x", "1" * 64, "1.02.3", "."])
def test_no_path_is_made_from_a_received_name(tmp_path: Path, uid: str) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with pydicom.config.disable_value_validation():
        ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = MRImageStorage, uid, "x"
        with Receiver(tmp_path / "deep" / "out", port=0) as receiver:
            ae = AE()
            ae.add_requested_context(MRImageStorage, [ExplicitVRLittleEndian])
            link = ae.associate("127.0.0.1", receiver.port, ae_title="IMAGEDATA")
            assert link.send_c_store(ds).Status == 0xC000
            link.release()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_hostile_client_does_not_bring_it_down(tmp_path: Path) -> None:
    with Receiver(tmp_path / "out", port=0, associations=10, timeout=2) as receiver:
        address = ("127.0.0.1", receiver.port)
        echo(receiver.peer)
        before = resident()
        for kind in (1, 4):
            with socket.create_connection(address) as client, suppress(OSError):
                client.sendall(struct.pack(">BBL", kind, 0, 0xFFFFFFF0))
                for _ in range(300):
                    client.sendall(b"\0" * (1 << 20))
        idle = [socket.create_connection(address) for _ in range(200)]
        slow = socket.create_connection(address)
        assert resident() - before < 100
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError):
                slow.send(b"\1")
            with suppress(NetworkError):
                echo(receiver.peer)
                break
            assert time.monotonic() < deadline, "nobody else was let in"
            time.sleep(0.2)
        for client in [*idle, slow]:
            client.close()
        files = write_series(tmp_path / "in")
        assert send(files, receiver.peer).summary == "4 stored"
        assert resident() - before < 100
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_client_that_stops_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "in", slices=1)

    def cut(event: Any) -> None:
        raise AssertionError(event)

    with Receiver(tmp_path / "out", port=0, timeout=1, arrived=cut) as receiver:
        data = file.read_bytes()
        with socket.create_connection(("127.0.0.1", receiver.port)) as client:
            client.sendall(b"\4\0" + struct.pack(">L", len(data)) + data[:500])
            time.sleep(0.2)
        echo(receiver.peer)
    assert list((tmp_path / "out").iterdir()) == []


def instance(uid: str = "1.2.826.0.1.3680043.8.498.1", sop_class: str = MRImageStorage) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = sop_class, uid, "x"
    return ds


def test_a_sender_that_has_sent_all_may_release_its_association(tmp_path: Path) -> None:
    # As dcmtk's storescu: an abort in place of the answer to its release is a failure to it.
    with Receiver(tmp_path / "out", port=0) as receiver:
        ae = AE()
        ae.add_requested_context(MRImageStorage, [ExplicitVRLittleEndian])
        link = ae.associate("127.0.0.1", receiver.port, ae_title="IMAGEDATA")
        assert link.send_c_store(instance()).Status == 0
        later = threading.Timer(0.3, link.release)
        later.start()
        assert receiver.wait(1, 5)
    later.join()
    assert link.is_released
    assert not link.is_aborted


def test_leaving_ends_who_does_not_and_finishes_what_is_written(tmp_path: Path) -> None:
    went_on: list[str] = []

    def slow(file: Path) -> None:
        time.sleep(2)
        went_on.append(file.name)

    with Receiver(tmp_path / "out", port=0, arrived=slow) as receiver:
        ae = AE()
        ae.add_requested_context(MRImageStorage, [ExplicitVRLittleEndian])
        link = ae.associate("127.0.0.1", receiver.port, ae_title="IMAGEDATA")
        busy = threading.Thread(target=lambda: link.send_c_store(instance()))
        busy.start()
        assert receiver.wait(1, 5)
    assert len(went_on) == 1
    busy.join()
    assert not link.is_established


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([JPEGBaseline8Bit, JPEG2000, JPEGLosslessSV1], JPEGLosslessSV1),
        ([JPEGBaseline8Bit], JPEGBaseline8Bit),
    ],
)
def test_of_several_encodings_one_is_taken_that_loses_nothing(tmp_path: Path, offered: list[UID], taken: UID) -> None:
    with Receiver(tmp_path / "out", port=0) as receiver:
        ae = AE()
        ae.add_requested_context(MRImageStorage, offered)
        link = ae.associate("127.0.0.1", receiver.port, ae_title="IMAGEDATA")
        (accepted,) = link.accepted_contexts
        link.release()
    assert accepted.transfer_syntax == [taken]


def test_why_an_instance_was_refused_is_told(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "in", slices=1)
    uid = pydicom.dcmread(file).SOPInstanceUID
    told: list[tuple[str, str]] = []
    with (
        Receiver(tmp_path / "out", port=0, largest_total=9, turned_away=lambda *of: told.append(of)) as receiver,
        pytest.raises(NotStoredError),
    ):
        send(file, receiver.peer)
    size = file.stat().st_size
    ((named, why),) = told
    assert named == uid
    assert abs(int(why.split()[2]) - size) < 500
    assert why.endswith("and of those that all may take 9 are left")


def test_an_inbox_can_be_read_while_more_come(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    with Receiver(tmp_path / "out", port=0) as receiver:
        send(files, receiver.peer)
    # What a receiver that is killed leaves, and one that writes has for a moment.
    unfinished = tmp_path / "out" / f".{'0' * 32}.{'a' * 12}.part"
    unfinished.write_bytes(receiver.files[0].read_bytes()[:-100])
    assert ixr.open_series(tmp_path / "out").shape == (4, *ixr.open_series(tmp_path / "in").shape[1:])


@contextmanager
def command(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Peer]]:
    words = [sys.executable, "-m", "image_data", "receive", str(folder), "--port", "0", *options]
    # Programs that a shell started in the background ignore an interrupt, and so do those that they start.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as run:
        try:
            assert run.stderr is not None
            port = int(run.stderr.readline().split(" receives ")[0].rpartition(":")[2])
            yield run, Peer("127.0.0.1", port, "IMAGEDATA")
        finally:
            run.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_tells_what_came_and_what_it_refused(tmp_path: Path, number: signal.Signals) -> None:
    files = write_series(tmp_path / "in")
    with command(tmp_path / "out", "--json") as (run, peer):
        send(files, peer)
        ds = pydicom.dcmread(files[0])
        ds.PatientName = "Other^Name"
        ds.save_as(tmp_path / "other.dcm")
        with pytest.raises(NotStoredError):
            send(tmp_path / "other.dcm", peer)
        run.send_signal(number)
        output, said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    document = json.loads(output)
    assert sorted(document["files"]) == sorted(str(file) for file in (tmp_path / "out").iterdir())
    assert document["refused"] == 1
    assert f"image_data: not taken: {ds.SOPInstanceUID}: " in said
    assert "has another version of it" in said
    assert "Other" not in said


def test_the_command_ends_when_enough_have_come(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    with command(tmp_path / "out", "--count", "4") as (run, peer):
        send(files, peer)
        output, _ = run.communicate(timeout=30)
    assert run.returncode == 0
    assert sorted(output.split()) == sorted(str(file) for file in (tmp_path / "out").iterdir())
    assert len(output.split()) == 4
