"""Files go to a DICOMweb service byte for byte, and what it says of each is told."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from imagedata_xr.cli import main
from imagedata_xr.errors import NotStoredError
from imagedata_xr.pacs.receive import Receiver
from imagedata_xr.pacs.send import send
from tests.generate import write_series
from tests.web import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Answer = tuple[int, dict[str, Any] | None]


@contextmanager
def service(answer: Callable[[list[bytes]], Answer]) -> Iterator[tuple[str, list[list[bytes]]]]:
    """Give the URL of a service that answers as it is told, and the list of what was posted."""
    posted: list[list[bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = re.search('boundary="(.+?)"', self.headers["Content-Type"])
            assert found is not None
            first, *parts, last = body.split(f"\r\n--{found.group(1)}".encode())
            assert (first, last) == (b"", b"--\r\n")
            posted.append([part.partition(b"\r\n\r\n")[2] for part in parts])
            status, document = answer(posted[-1])
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            if status == 307:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"dicomweb+http://127.0.0.1:{server.server_port}/dicom-web", posted


def uids_of(parts: list[bytes]) -> list[str]:
    return [str(pydicom.dcmread(pydicom.filebase.DicomBytesIO(part)).SOPInstanceUID) for part in parts]


def told(stored: list[str], failed: dict[str, int]) -> dict[str, Any]:
    """Return an answer in DICOM JSON."""

    def item(uid: str, *more: tuple[str, int]) -> dict[str, Any]:
        codes = {tag: {"vr": "US", "Value": [code]} for tag, code in more}
        return {"00081155": {"vr": "UI", "Value": [uid]}, **codes}

    return {
        "00081199": {"vr": "SQ", "Value": [item(uid) for uid in stored]},
        "00081198": {"vr": "SQ", "Value": [item(uid, ("00081197", code)) for uid, code in failed.items()]},
    }


def takes_all(parts: list[bytes]) -> Answer:
    return 200, told(uids_of(parts), {})


def test_the_bytes_of_the_files_are_posted(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=6)
    head = pydicom.filebase.DicomBytesIO(files[0].read_bytes())
    pydicom.filereader.read_partial(head, lambda tag, vr, length: tag >= 0x00080000)
    data = files[0].read_bytes()
    # A group length, which no writer of today would leave as it is.
    files[0].write_bytes(data[: head.tell()] + b"\x08\0\0\0UL\x04\0\x64\0\0\0" + data[head.tell() :])
    with service(takes_all) as (url, posted):
        assert send(files, url).summary == "24 stored"
    assert [part for parts in posted for part in parts] == [file.read_bytes() for file in files]
    assert [len(parts) for parts in posted] == [20, 4]


def test_file_meta_information_may_be_long(tmp_path: Path) -> None:
    (file, *_) = write_series(tmp_path / "in", times=1, slices=1)
    ds = pydicom.dcmread(file)
    ds.file_meta.PrivateInformationCreatorUID, ds.file_meta.PrivateInformation = "1.2.3", b"\0\1" * 50_000
    ds.save_as(file)
    with service(takes_all) as (url, posted):
        assert send(file, url).summary == "1 stored"
    assert posted == [[file.read_bytes()]]
    with Receiver(tmp_path / "out", port=0) as receiver:
        assert send(file, receiver.peer).summary == "1 stored"


@pytest.mark.parametrize("status", [400, 409])
def test_what_is_refused_is_told_with_its_code(tmp_path: Path, status: int) -> None:
    files = write_series(tmp_path / "in")
    with (
        service(lambda parts: (status, told([], dict.fromkeys(uids_of(parts), 0xA700)))) as (url, posted),
        pytest.raises(NotStoredError, match="out of resources") as caught,
    ):
        send(files, url)
    assert caught.value.report.summary == "4 refused (0xA700)"
    assert len(posted) == 1


def test_one_that_is_refused_is_told_and_failure_wins(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")

    def answer(parts: list[bytes]) -> Answer:
        uids = uids_of(parts)
        return 202, told(uids, {uids[1]: 0xC122})

    with service(answer) as (url, _), pytest.raises(NotStoredError, match="transfer syntax") as caught:
        send(files, url)
    assert [i.code for i in caught.value.report] == [0, 0xC122, 0, 0]
    assert caught.value.report.summary == "3 stored, 1 refused (0xC122)"


def test_one_that_spoils_its_request_does_not_spoil_the_others(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    bad = files[2].read_bytes()
    with (
        service(lambda parts: (400, None) if bad in parts else takes_all(parts)) as (url, _),
        pytest.raises(NotStoredError, match="400") as caught,
    ):
        send(files, url)
    assert [i.status for i in caught.value.report] == ["stored", "stored", "unknown", "stored"]


@pytest.mark.parametrize(
    ("status", "requests", "reason"),
    [
        (401, 1, "401 Unauthorized .credentials come from IMAGEDATA_XR_WEB_TOKEN, .* netrc"),
        (403, 1, "403 Forbidden .credentials come from"),
        (307, 1, r"307 .* and sends on to http://127.0.0.1:\d+/elsewhere, which is not followed: see whether the URL"),
        (429, 3, "429 Too Many Requests, and"),
        (502, 3, "502 Bad Gateway, and"),
        (503, 3, "503 Service Unavailable, and"),
        (500, 6, "500 Internal Server Error, and"),
    ],
)
def test_a_service_that_tells_nothing(tmp_path: Path, status: int, requests: int, reason: str) -> None:
    files = write_series(tmp_path / "in", slices=30)
    with service(lambda _: (status, None)) as (url, posted), pytest.raises(NotStoredError, match=reason) as caught:
        send(files, url)
    assert [i.status for i in caught.value.report] == ["unknown"] * 30
    # A service that is down, or takes nothing of ours, is not asked for each instance.
    assert len(posted) == requests
    assert "not sent, http" in caught.value.report[-1].reason


def test_a_service_that_fails_for_some_gets_the_others(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=8)
    bad = [file.read_bytes() for file in files[10:18]]
    with (
        service(lambda parts: (500, None) if any(one in parts for one in bad) else takes_all(parts)) as (url, _),
        pytest.raises(NotStoredError) as caught,
    ):
        send(files, url)
    assert caught.value.report.summary == "24 stored, 8 unknown"


def test_a_service_that_takes_requests_of_a_size(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=30)
    large = write_series(tmp_path / "large", slices=1, rows=100, cols=100, series="large")
    most = 6 * len(files[0].read_bytes())

    def answer(parts: list[bytes]) -> Answer:
        return (413, None) if sum(map(len, parts)) > most else takes_all(parts)

    with service(answer) as (url, posted), pytest.raises(NotStoredError, match="413") as caught:
        send([tmp_path / "in", tmp_path / "large"], url)
    assert caught.value.report.summary == "30 stored, 1 refused"
    assert [i.path for i in caught.value.report.failed] == [str(large[0])]
    # It is not asked again with as many, nor with the large one.
    assert sum(sum(map(len, parts)) > most for parts in posted) <= 4


@pytest.mark.parametrize("status", [502, 503])
def test_a_service_that_is_down_for_a_while(tmp_path: Path, status: int) -> None:
    files = write_series(tmp_path / "in")
    with service(lambda parts: (status, None) if len(posted) < 3 else takes_all(parts)) as (url, posted):
        assert send(files, url).summary == "4 stored"
    # One that says that the fault is its own is given all again.
    assert [len(parts) for parts in posted] == ([4, 4, 4] if status == 503 else [4, 1, 1, 1, 1, 1])


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_series(tmp_path / "in")
    with service(takes_all) as (url, _):
        assert main(["send", url, str(tmp_path / "in")]) == 0
        assert capsys.readouterr().out == f"{url}: {len(files)} stored\n"
        assert main(["send", "--json", url, str(tmp_path / "in")]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["pacs"], len(document["instances"])) == (url, 4)
        assert main(["send", "--cert", "a.crt", url, str(tmp_path / "in")]) == 2
        assert "IMAGEDATA_XR_TLS_CERT" in capsys.readouterr().err
        assert main(["send", "--commit", url, str(tmp_path / "in")]) == 2
        assert "--commit is of DIMSE" in capsys.readouterr().err
        assert main(["echo", url]) == 2
        assert f"image_data query {url}" in capsys.readouterr().err
    assert main(["query", "dicomweb+http://127.0.0.1:9/dicom-web"]) == 7
    assert "no answer" in capsys.readouterr().err
