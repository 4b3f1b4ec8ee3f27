"""No patient is named in logs, messages or warnings, however much is logged."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.config import disable_value_validation
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity

from imagedata_xr.errors import MissingHeaderError, NetworkError, NotStoredError
from imagedata_xr.pacs.link import Link
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.receive import Receiver
from imagedata_xr.pacs.retrieve import retrieve
from imagedata_xr.pacs.send import send
from tests.generate import write_series
from tests.pacs.peers import archive

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

MARKERS = {
    "PatientName": "MARKER^NAME",
    "PatientID": "MARKERID",
    "PatientBirthDate": "MARKERBIRTH",
    "AccessionNumber": "MARKERACC",
    "StudyDescription": "MARKER description",
    "OtherPatientIDs": "MARKEROTHER",
}


def planted(ds: Dataset, _t: int, _z: int) -> None:
    for name, value in MARKERS.items():
        setattr(ds, name, value)


def test_sending_and_receiving(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def without_study(ds: Dataset, t: int, z: int) -> None:
        planted(ds, t, z)
        ds.ImageType, ds.StudyInstanceUID = ["DERIVED", "PRIMARY"], ""

    with disable_value_validation():
        files = write_series(tmp_path / "in", mutate=planted)
        wrong = write_series(tmp_path / "wrong", mutate=without_study)
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    told = []
    with Receiver(tmp_path / "out", port=0) as receiver:
        send(files, receiver.peer)
        with pytest.raises(MissingHeaderError) as missing:
            send(wrong, receiver.peer)
        told.append(str(missing.value))
        with pytest.raises(NetworkError) as network:
            query(receiver.peer, "study", MARKERS)
        told.append(str(network.value))
    caplog_of_ours = caplog.text
    with archive(lambda *_: 0xA700) as pacs, pytest.raises(NotStoredError) as refused:
        send(files, pacs.url)
    told += [str(refused.value), repr(refused.value.report), repr(Peer("h", 1, "A"))]
    assert "Association" in caplog_of_ours
    assert "MARKER" not in caplog.text + "".join(told)


def test_associations_of_many_threads_log_nothing_and_leave_the_level_of_others() -> None:
    def made(_: int) -> bool:
        link = Link(ApplicationEntity("A"), "requestor")
        return any(link.get_handlers(event) for event in (evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT, evt.EVT_PDU_RECV))

    level, interval = _config.LOG_HANDLER_LEVEL, sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert not any(pool.map(made, range(400)))
        assert level == _config.LOG_HANDLER_LEVEL == "standard"
    finally:
        sys.setswitchinterval(interval)
        _config.LOG_HANDLER_LEVEL = level


@pytest.mark.pacs
def test_finding_and_fetching(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    if "PACS_DIR" not in os.environ:
        if os.environ.get("REQUIRE_PACS"):
            pytest.fail("no PACS")
        pytest.skip("no PACS; run this by tests/pacs/with_servers.sh")
    with disable_value_validation():
        files = write_series(tmp_path / "in", patient="MARKERPATIENT", study="logs", mutate=planted)
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    peer = Peer("127.0.0.1", 14242, "ORTHANC")
    send(files, peer, commit=True)
    found = query(peer, "series", {"PatientID": "MARKERID", "PatientName": "MARKER*"})
    assert len(found) == 1
    for how in ("get", "move"):
        retrieve(peer, tmp_path / how, study=found.StudyInstanceUID[0], how=how)  # type: ignore[arg-type]
    output = capfd.readouterr()
    assert "MARKER" not in caplog.text + output.out + output.err
