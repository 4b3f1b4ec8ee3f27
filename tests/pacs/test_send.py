"""Nothing that is sent is lost, and nothing is said to be stored that is not."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

import imagedata_xr as ixr
from imagedata_xr.cli import main
from imagedata_xr.errors import ConflictingOriginError, MissingHeaderError, NetworkError, NotStoredError
from imagedata_xr.pacs.echo import echo
from imagedata_xr.pacs.instances import file_and_head, file_head
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.send import send
from tests.generate import write_series
from tests.pacs.peers import MRImageStorage, archive, slow_wire, wire

if TYPE_CHECKING:
    from pathlib import Path


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_instances_arrive_byte_for_byte(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=3)
    counts: list[tuple[int, int]] = []
    with archive() as pacs:
        report = send(tmp_path / "in", pacs.url, progress=lambda done, total: counts.append((done, total)))
    assert [i.status for i in report] == ["stored"] * 12
    assert report.summary == "12 stored"
    assert counts == [(n, 12) for n in range(1, 13)]
    for file in files:
        syntax, data = pacs.instances[uid_of(file)]
        assert syntax == ExplicitVRLittleEndian
        assert file.read_bytes().endswith(data)
        assert len(data) > 500


def test_an_image_is_sent_as_a_new_series_of_the_same_patient(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=2)
    image = ixr.open_series(tmp_path / "in", "time")
    with archive() as pacs:
        report = (image * 2).dicom.write(pacs.url)
        report += image.dicom.send(Peer("127.0.0.1", pacs.port, "ARCHIVE", calling_aet="WARD"), jobs=2)
    assert len(report) == len(pacs.instances) == 16
    sent = [read_dataset(DicomBytesIO(data), False, True) for _, data in pacs.instances.values()]
    assert {ds.PatientID for ds in sent} == {"P1"}
    assert {ds.StudyInstanceUID for ds in sent} == {image.attrs["StudyInstanceUID"]}
    assert len({ds.SeriesInstanceUID for ds in sent} | {image.attrs["SeriesInstanceUID"]}) == 3
    assert sum(ds.ImageType[0] == "DERIVED" for ds in sent) == 8


def test_the_command_of_the_manual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "in")
    with archive() as pacs:
        arguments = ["--sernum", "1004", "--serdes", "Processed data", pacs.url, str(tmp_path / "in")]
        assert main(arguments) == 0
        assert f"{pacs.url}: dicom, 4 instances stored" in capsys.readouterr().out
        assert main(["calc", pacs.url, "a * 2", str(tmp_path / "in")]) == 0
        assert main(["--of", "nifti", *arguments]) == 2
        assert main(["--resume", *arguments]) == 2
    (ds, *_) = [read_dataset(DicomBytesIO(data), False, True) for _, data in pacs.instances.values()]
    assert (ds.SeriesNumber, ds.SeriesDescription) == (1004, "Processed data")
    assert main(arguments) == 7
    assert "connection refused" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0xA700, 0xA900, 0xC000, 0x0110, 0x0124])
def test_each_refused_instance_is_named_with_its_code(tmp_path: Path, code: int) -> None:
    files = write_series(tmp_path / "in")
    bad = uid_of(files[2])
    with archive(lambda uid, _: code if uid == bad else 0) as pacs, pytest.raises(NotStoredError) as caught:
        send(files, pacs.url)
    report = caught.value.report
    assert [i.status for i in report] == ["stored", "stored", "refused", "stored"]
    assert (report.failed[0].path, report.failed[0].code, report.failed[0].uid) == (str(files[2]), code, bad)
    assert f"0x{code:04X}" in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


def test_a_warning_is_stored_and_warns(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    with archive(lambda _, number: 0xB000 if number == 2 else 0) as pacs, pytest.warns(UserWarning, match="0xB000"):
        report = send(files, pacs.url)
    assert [i.status for i in report] == ["stored", "warning", "stored", "stored"]
    assert len(pacs.instances) == 4


def test_what_the_peer_takes_in_no_transfer_syntax_is_refused_with_the_reason(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    with archive(classes=["1.2.840.10008.5.1.4.1.1.2"]) as pacs, pytest.raises(NotStoredError) as caught:
        send(files, pacs.url)
    assert "MR Image Storage as Explicit VR Little Endian" in str(caught.value)
    assert {(i.status, i.code) for i in caught.value.report} == {("refused", None)}


@pytest.mark.parametrize("own", [RLELossless, JPEGLSLossless, JPEG2000Lossless, ImplicitVRLittleEndian])
@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_transcoding_loses_nothing(tmp_path: Path, own: UID, taken: UID) -> None:
    files = write_series(tmp_path / "in", slices=2, rows=64, cols=64, transfer_syntax=own)
    with archive(syntaxes=[taken]) as pacs:
        assert send(files, pacs.url).summary == "2 stored"
    for file in files:
        before = pydicom.dcmread(file)
        syntax, data = pacs.instances[uid_of(file)]
        assert syntax == taken
        after = read_dataset(DicomBytesIO(data), taken.is_implicit_VR, True)
        after.file_meta = pydicom.dataset.FileMetaDataset()
        after.file_meta.TransferSyntaxUID = taken
        assert np.array_equal(before.pixel_array, after.pixel_array)
        assert before.SOPInstanceUID == after.SOPInstanceUID
        assert {e.tag for e in before} == {e.tag for e in after}


@pytest.mark.filterwarnings("ignore:Expected .* VR, but found:UserWarning")
@pytest.mark.parametrize("own", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_that_is_not_encoded_as_it_says_is_sent_as_it_is_encoded(tmp_path: Path, own: UID, taken: UID) -> None:
    (file,) = write_series(tmp_path / "in", slices=1, transfer_syntax=own)
    ds = pydicom.dcmread(file)
    data, begin = file_and_head(str(file))
    said = ImplicitVRLittleEndian if own == ExplicitVRLittleEndian else ExplicitVRLittleEndian
    file.write_bytes(file_head(ds.SOPClassUID, ds.SOPInstanceUID, said) + data[begin:])
    with archive(syntaxes=[taken]) as pacs:
        if (own, taken) == (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
            with pytest.raises(NotStoredError, match=r"1 refused.* it does not take its transfer syntax"):
                send(file, pacs.url)
            return
        assert send(file, pacs.url).summary == "1 stored"
    syntax, sent = pacs.instances[ds.SOPInstanceUID]
    assert syntax == taken
    assert sent == data[begin:] or taken != own
    assert sent[4:6].isalpha() == (taken == ExplicitVRLittleEndian)  # a VR; pydicom reads what is there
    got = read_dataset(DicomBytesIO(sent), taken == ImplicitVRLittleEndian, True)
    assert (got.PatientID, got.PixelData) == (ds.PatientID, ds.PixelData)


def test_big_endian_is_sent_as_it_is_or_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=2, transfer_syntax=ExplicitVRBigEndian)
    with archive(syntaxes=[ExplicitVRBigEndian]) as pacs:
        assert send(files, pacs.url).summary == "2 stored"
    with archive() as pacs, pytest.raises(NotStoredError, match="big endian"):
        send(files, pacs.url)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"require_called_aet": True, "ae_title": "OTHER"}, "called"),
        ({"require_calling_aet": ["WARD"]}, "calling"),
    ],
)
def test_a_wrong_ae_title_is_named(tmp_path: Path, what: dict[str, Any], why: str) -> None:
    files = write_series(tmp_path / "in")
    with archive(**what) as pacs:
        with pytest.raises(NetworkError, match=f"rejected: .*{why}"):
            echo(pacs.url)
        with pytest.raises(NotStoredError, match="rejected") as caught:
            send(files, pacs.url)
    assert {i.status for i in caught.value.report} == {"unknown"}
    assert all("not sent" in i.reason for i in caught.value.report)


def test_a_peer_that_takes_fewer_associations_gets_all(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=10)
    with archive(maximum_associations=1) as pacs:
        assert send(files, pacs.url, jobs=4).summary == "40 stored"
    assert len(pacs.instances) == 40


def test_what_is_not_confirmed_is_sent_again_and_nothing_else(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=3)

    def abort_once(event: Any) -> None:
        if len(pacs.received) == 5:
            event.assoc.abort()

    with archive(before_answer=abort_once) as pacs:
        assert send(files, pacs.url).summary == "12 stored"
    assert len(pacs.received) == 13
    assert len(pacs.instances) == 12


def test_an_instance_that_ends_every_association_does_not_keep_others_back(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=3)
    bad = uid_of(files[4])

    def abort(event: Any) -> None:
        if str(event.request.AffectedSOPInstanceUID) == bad:
            event.assoc.abort()

    with archive(before_answer=abort) as pacs, pytest.raises(NotStoredError) as caught:
        send(files, pacs.url)
    assert [i.path for i in caught.value.report.failed] == [str(files[4])]
    assert caught.value.report.failed[0].status == "unknown"


def test_a_peer_that_does_not_answer_takes_finite_time(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=2)
    with archive(before_answer=lambda _: time.sleep(2)) as pacs:
        start = time.monotonic()
        with pytest.raises(NotStoredError, match="unknown"):
            send(files, Peer("127.0.0.1", pacs.port, "ARCHIVE", timeout=0.3))
        assert time.monotonic() - start < 15
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer("127.0.0.1", silent.getsockname()[1], "ARCHIVE", timeout=0.3)
        with pytest.raises(NetworkError, match="did not answer"):
            echo(peer)
    with pytest.raises(NetworkError, match="connection refused"):
        echo(f"dicom://127.0.0.1:{free_port()}/ARCHIVE")


@pytest.mark.slow
def test_a_large_instance_may_take_longer_on_its_way_than_a_peer_to_answer(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=1, rows=3200, cols=3200)
    with archive() as pacs, slow_wire(pacs.port, 0.001) as way:
        assert send(files, Peer("127.0.0.1", way.port, "ARCHIVE", timeout=3)).summary == "1 stored"
        assert len(pacs.received) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_wire_that_breaks_at_random_bytes(tmp_path: Path, seed: int) -> None:
    files = write_series(tmp_path / "in", times=75, rows=64, cols=64)
    with archive() as pacs, wire(pacs.port, seed, 20_000, 400_000) as broken:
        report = send(files, broken.url, jobs=1 + seed % 2)
        assert broken.cuts > 5
    assert report.summary == "300 stored"
    assert {i.uid for i in report} == pacs.instances.keys()


def test_several_associations_wait_as_long_as_one_for_a_pacs_that_starts_anew(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=3)
    with archive() as pacs, wire(pacs.port, 1, 1 << 30, 1 << 30) as broken:
        broken.is_cut = True
        back = threading.Timer(1, lambda: setattr(broken, "is_cut", False))
        back.start()
        assert send(files, broken.url, jobs=4).summary == "12 stored"
        back.join()


def test_a_pacs_that_is_gone_for_good(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=15)
    with archive() as pacs, wire(pacs.port, 1, 60_000, 60_000) as broken:
        start = time.monotonic()

        def cut(done: int, _total: int) -> None:
            broken.is_cut = done >= 25

        with pytest.raises(NotStoredError) as caught:
            send(files, broken.url, progress=cut)
        assert time.monotonic() - start < 30
    report = caught.value.report
    assert len(report) == 60
    stored = {i.uid for i in report if i.status == "stored"}
    assert 20 < len(stored) < 40
    assert stored <= pacs.instances.keys()
    assert {i.status for i in report.failed} == {"unknown"}
    assert all(i.reason for i in report.failed)


@pytest.mark.slow
def test_no_answer_is_lost_under_fast_sending(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=500, rows=2, cols=2)
    with archive() as pacs:
        for _ in range(3):
            before = len(pacs.received)
            assert send(files, Peer("127.0.0.1", pacs.port, "ARCHIVE", timeout=5)).summary == "2000 stored"
            assert len(pacs.received) - before == 2000


def test_a_derived_image_without_an_owner_does_not_leave(tmp_path: Path) -> None:
    def derived(**elements: Any) -> list[Path]:
        def mutate(ds: pydicom.Dataset, _t: int, _z: int) -> None:
            ds.ImageType = ["DERIVED", "PRIMARY", "M"]
            for name, value in elements.items():
                setattr(ds, name, value)

        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return write_series(folder, mutate=mutate)

    with archive() as pacs:
        for patient in ("", "ANONYMOUS", "unknown", "0000", "XXX", "PHANTOM"):
            with pytest.raises(MissingHeaderError, match="PatientID is") as caught:
                send(derived(PatientID=patient), pacs.url)
            assert not patient or patient not in str(caught.value)
        for study in ("", "1.2.3", "1.2.3.4.5"):
            with pytest.raises(MissingHeaderError, match="StudyInstanceUID is"):
                send(derived(StudyInstanceUID=study), pacs.url)
        with disable_value_validation():
            wrong = derived(StudyInstanceUID="2.16.578.2fc0.1")
        with pytest.raises(MissingHeaderError, match="no valid UID"):
            send(wrong, pacs.url)
        mixed = derived()
        ds = pydicom.dcmread(mixed[0])
        ds.PatientID = "P2"
        ds.save_as(mixed[0])
        with pytest.raises(ConflictingOriginError, match="2 patients or studies"):
            send(mixed, pacs.url)
        with pytest.raises(ConflictingOriginError, match="would replace"):
            send([*derived(), *derived()], pacs.url)
        source = pydicom.Dataset()
        own = derived()
        source.ReferencedSOPInstanceUID = uid_of(own[0])
        source.ReferencedSOPClassUID = MRImageStorage
        ds = pydicom.dcmread(own[0])
        ds.SourceImageSequence = [source]
        ds.save_as(own[0])
        with pytest.raises(ConflictingOriginError, match="made from"):
            send(own, pacs.url)
    assert not pacs.received
