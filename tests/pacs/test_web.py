"""DICOMweb: lazily read, stored with a report, and no secrets where they can be seen."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

import imagedata_xr as ixr
from imagedata_xr.cli import main
from imagedata_xr.errors import NetworkError, NoDicomError, NotStoredError
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.send import send
from imagedata_xr.pacs.web import split_web
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORTHANC = "http://127.0.0.1:18042"
URL = f"dicomweb+{ORTHANC}/dicom-web"


@pytest.fixture
def orthanc() -> str:
    """Return the URL of a DICOMweb service with nothing in it."""
    if "PACS_DIR" not in os.environ:
        message = "no PACS; run this by tests/pacs/with_servers.sh"
        if os.environ.get("REQUIRE_PACS"):
            pytest.fail(message)
        pytest.skip(message)
    for patient in requests.get(f"{ORTHANC}/patients").json():
        requests.delete(f"{ORTHANC}/patients/{patient}")
    return URL


@contextmanager
def counted() -> Iterator[tuple[str, list[str]]]:
    """Give the URL of a service that hands on to Orthanc, and the list of what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            names = ("Accept", "Authorization")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            answer = requests.get(ORTHANC + self.path, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"dicomweb+http://127.0.0.1:{server.server_address[1]}/dicom-web", asked
    finally:
        server.shutdown()
        server.server_close()


def series(folder: Path, **options: Any) -> tuple[list[Path], str]:
    """Write a series of its own study; return its files, and where it is in a service."""
    files = write_series(folder, patient=str(generate_uid())[-10:], study=str(generate_uid()), **options)
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    return files, f"studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"


@pytest.mark.pacs
def test_only_the_frames_that_are_indexed_are_fetched(orthanc: str, tmp_path: Path) -> None:
    files, place = series(tmp_path / "in", times=3)
    assert send(files, orthanc).summary == "12 stored"
    image = ixr.open_series(tmp_path / "in", "time")
    with counted() as (url, asked):
        found = ixr.open_series(f"{url}/{place}", "time")
        assert sum(path.endswith("/metadata") for path in asked) == 1
        assert not [path for path in asked if "/frames/" in path]
        assert found.attrs == image.attrs
        assert found.dicom.geometry_equal(image)
        assert np.array_equal(found.isel(time=1, slice=2).values, image.isel(time=1, slice=2).values)
        assert len([path for path in asked if "/frames/" in path]) == 1
        assert np.array_equal(found.isel(time=2).values, image.isel(time=2).values)
        assert len([path for path in asked if "/frames/" in path]) == 5
        header, own = found.dicom.header(time=0, slice=0), image.dicom.header(time=0, slice=0)
        assert len([path for path in asked if "/frames/" in path]) == 5
        assert header == own
        asked.clear()
        chunked = ixr.open_series(f"{url}/{place}", "time", chunks={"time": 1})
        assert np.array_equal(chunked.mean("time").values, image.mean("time").values)
        assert len([path for path in asked if "/frames/" in path]) == 12


@pytest.mark.pacs
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_round_trip_of_each_transfer_syntax(orthanc: str, syntax: Any, tmp_path: Path) -> None:
    files, place = series(tmp_path / "in", rows=64, cols=64, transfer_syntax=syntax)
    send(files, orthanc)
    image, found = ixr.open_series(tmp_path / "in"), ixr.open_series(f"{orthanc}/{place}")
    assert np.array_equal(found.values, image.values)
    assert found.attrs == image.attrs
    assert found.dicom.geometry_equal(image)


@pytest.mark.pacs
def test_find_write_and_read_again(orthanc: str, tmp_path: Path) -> None:
    files, place = series(tmp_path / "in", times=2, number=3)
    send(files, orthanc)
    header = pydicom.dcmread(files[0])
    study = place.split("/")[1]
    assert list(query(orthanc, "study", {"PatientID": header.PatientID}).StudyInstanceUID) == [study]
    assert len(query(orthanc, "image", {"StudyInstanceUID": study})) == 8
    image = ixr.open_series(f"{orthanc}/{place}", "time")
    assert len((image * 2).dicom.write(orthanc)) == 8
    numbers = query(orthanc, "series", {"StudyInstanceUID": study}).SeriesNumber
    assert sorted(map(int, numbers)) == [3, 1003]
    assert len(ixr.scan(f"{orthanc}/studies/{study}")) == 2
    assert main(["--order", "time", str(tmp_path / "out"), f"{orthanc}/{place}"]) == 0
    assert np.array_equal(ixr.open_series(tmp_path / "out", "time").values, image.values)
    with pytest.raises((NoDicomError, NetworkError, FileNotFoundError)):
        ixr.open_series(f"{orthanc}/studies/1.2.840.99.1/series/1.2.840.99.2")


def test_a_service_that_is_not_there_is_named_and_nobody_else(tmp_path: Path) -> None:
    files, place = series(tmp_path / "in", slices=1)
    with pytest.raises(NotStoredError, match="no answer") as caught:
        send(files, "dicomweb+http://127.0.0.1:9/dicom-web")
    assert caught.value.report[0].status == "unknown"
    with pytest.raises(NetworkError) as refused:
        query("dicomweb+http://127.0.0.1:9/dicom-web", "study", {"PatientID": "SECRET^NAME"})
    assert "SECRET" not in str(refused.value)
    with pytest.raises(OSError, match="no answer"):
        ixr.open_series(f"dicomweb+http://127.0.0.1:9/dicom-web/{place}")


@pytest.mark.parametrize(
    "url",
    [
        "dicomweb+https://me:secret@pacs/web",
        "dicomweb+https://pacs/web/studies/../../etc",
        "dicomweb+https://pacs/web/studies/1.2.3/instances/1.2.4",
        "dicomweb+https://pacs/web/studies/1.2.3/series",
        "dicomweb+https://pacs/web/studies/1.2.3٣",
        "dicomweb+https:///web",
        "https://pacs/web",
    ],
)
def test_what_is_no_url_of_dicomweb(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        split_web(url)
    assert "secret" not in str(caught.value)
