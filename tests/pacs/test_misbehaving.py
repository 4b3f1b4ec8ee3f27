"""Peers that do not answer as they should are not believed."""

from __future__ import annotations

import copy
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE

from imagedata_xr.cli import main
from imagedata_xr.errors import NotStoredError
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.send import send
from tests.generate import write_series
from tests.pacs.peers import MRImageStorage, archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@contextmanager
def provider(handlers: list[Any], *classes: str) -> Iterator[str]:
    """Give the URL of a PACS that does what handlers do."""
    ae = AE("ARCHIVE")
    for sop_class in (MRImageStorage, *classes):
        ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"dicom://127.0.0.1:{server.socket.getsockname()[1]}/ARCHIVE"
    finally:
        ae.shutdown()


def say_stored(event: Any, **changes: Any) -> None:
    """Say that an instance is stored, before the answer proper."""
    response = C_STORE()
    response.MessageIDBeingRespondedTo = event.request.MessageID
    response.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    response.AffectedSOPInstanceUID = event.request.AffectedSOPInstanceUID
    response.Status = 0
    for name, value in changes.items():
        setattr(response, name, value)
    event.assoc.dimse.send_msg(response, event.context.context_id)


def test_an_answer_to_another_request_confirms_nothing(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    first = str(pydicom.dcmread(files[0]).SOPInstanceUID)

    def once_more(event: Any) -> None:
        if event.request.AffectedSOPInstanceUID == first:
            say_stored(event)

    with archive(lambda uid, _: 0 if uid == first else 0xA700, before_answer=once_more) as pacs:
        with pytest.raises(NotStoredError) as caught:
            send(files, pacs.url)
        assert pacs.instances.keys() == {first}
    assert [(i.status, i.code) for i in caught.value.report] == [("stored", 0), *[("refused", 0xA700)] * 3]


@pytest.mark.parametrize(
    "change", [{"MessageIDBeingRespondedTo": 999}, {"AffectedSOPInstanceUID": "1.2.840.99.999"}], ids=str
)
def test_an_answer_that_names_another_confirms_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    files = write_series(tmp_path / "in", slices=2)
    with (
        archive(before_answer=lambda event: say_stored(event, **change)) as pacs,
        pytest.raises(NotStoredError, match=r"confirmed: ARCHIVE at \S+ sent an answer that names another") as caught,
    ):
        send(files, pacs.url)
    assert [i.status for i in caught.value.report] == ["unknown", "unknown"]
    with archive(before_answer=lambda event: say_stored(event, AffectedSOPInstanceUID=None)) as pacs:
        assert send(files[:1], pacs.url).summary == "1 stored"


@pytest.mark.parametrize(("is_failed", "summary"), [(False, "2 stored"), (True, "1 stored, 1 unknown")])
def test_what_is_committed_and_failed_is_not_committed(tmp_path: Path, is_failed: bool, summary: str) -> None:
    files = write_series(tmp_path / "in", slices=2)

    def on_action(event: Any) -> tuple[int, None]:
        asked, link = event.action_information, event.assoc

        def tell() -> None:
            result = Dataset()
            result.TransactionUID, result.ReferencedSOPSequence = asked.TransactionUID, asked.ReferencedSOPSequence
            if is_failed:
                failed = copy.deepcopy(asked.ReferencedSOPSequence[1])
                failed.FailureReason = 0x0112
                result.FailedSOPSequence = [failed]
            link.send_n_event_report(result, 2, COMMITMENT, WELL_KNOWN)

        threading.Timer(0.3, tell).start()
        return 0, None

    handlers = [(evt.EVT_C_STORE, lambda _: 0), (evt.EVT_N_ACTION, on_action)]
    with provider(handlers, COMMITMENT) as url:
        if not is_failed:
            assert send(files, url, commit=True).summary == summary
            return
        with pytest.raises(NotStoredError, match="0x0112") as caught:
            send(files, url, commit=True)
    assert caught.value.report.summary == summary


def test_arguments_that_name_no_pacs_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for words, said in (
        (["echo", "dicom://127.0.0.1"], "AETITLE is wanted"),
        (["echo", "dicom://127.0.0.1:9/A", "--timeout", "0"], "above 0"),
        (["echo", "dicom+tls://127.0.0.1:9/A", "--ca", str(tmp_path / "no.pem")], "no.pem: No such file"),
        (["echo", "dicom+tls://127.0.0.1:9/A", "--ca", str(bad)], f"{bad} has no certificates to trust"),
        (["echo", "dicom+tls://127.0.0.1:9/A", "--cert", str(bad)], f"{bad} are no certificate and its key"),
        (["query", "dicom://127.0.0.1:9/A", "-k", "Patient=1"], "'Patient' is no DICOM keyword"),
        (["query", "dicomweb+http://127.0.0.1:9/web", "--timeout", "1"], "--timeout and DICOMweb"),
        (["query", "dicomweb+http://127.0.0.1:9/web", "--level", "patient"], "no level of patients"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err


def test_names_of_persons_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    def on_find(_: Any) -> Iterator[tuple[int, Dataset]]:
        answer = Dataset()
        answer.SpecificCharacterSet, answer.PatientName = "ISO_IR 192", "Müller^Jörg"
        answer.ModalitiesInStudy = ["MR", "SR"]
        yield 0xFF00, answer

    with provider([(evt.EVT_C_FIND, on_find)], FIND) as url:
        (row,) = query(url, "study", {"PatientName": ""}).to_dict("records")
        assert (row["PatientName"], row["ModalitiesInStudy"]) == ("Müller^Jörg", ["MR", "SR"])
        assert main(["query", url, "-k", "PatientName="]) == 0
    assert "Müller^Jörg" in capsys.readouterr().out
