"""Who may look: this machine, with the token, from the viewer's own page."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
import urllib.request
import webbrowser
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
import pytest
import xarray as xr
from bokeh.document import Document
from bokeh.io import curdoc
from bokeh.server.session import ServerSession

from imagedata_xr.viewer.browse import view
from imagedata_xr.viewer.delivery import deliver
from imagedata_xr.viewer.models import SeriesState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagedata_xr.viewer.browse import Viewer

IMAGE = xr.DataArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5), dims=("slice", "row", "col"))


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    made = view(IMAGE, show=False)
    yield made
    made.close()


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            found: int = answer.status
    except HTTPError as err:
        found = err.code
        err.close()
    return found


def test_a_token_is_needed(viewer: Viewer) -> None:
    url = viewer.show(browser=False)
    base = url.split("?")[0]
    assert status(url) == 200
    assert status(base) == 403
    assert status(f"{base}?bokeh-session-id=guessed") == 403
    assert status(url[:-2] + "xx") == 403


def test_websockets_are_taken_from_its_own_pages_only(viewer: Viewer) -> None:
    port = urlsplit(viewer.show(browser=False)).port
    upgrade: dict[str, Any] = {
        **{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for origin, wanted in (("http://evil.example", 403), (f"http://127.0.0.1:{port}", 101)):
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/ws", headers={**upgrade, "Origin": origin})
        with connection.getresponse() as answer:
            assert answer.status == wanted
        connection.close()


def test_other_machines_are_not_listened_to(viewer: Viewer) -> None:
    port = urlsplit(viewer.show(browser=False)).port
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, type=socket.SOCK_STREAM)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((str(address), port or 0), timeout=5).close()


def test_a_port_that_is_taken_is_told(viewer: Viewer) -> None:
    port = urlsplit(viewer.show(browser=False)).port
    other = view(IMAGE, show=False)
    with pytest.raises(OSError, match=f"port {port} of 127"):
        other.show(browser=False, port=port)


@pytest.mark.parametrize("port", [99999, -1, "http"])
def test_what_is_no_port_is_told(viewer: Viewer, port: Any) -> None:
    for ask in (lambda: viewer.show(browser=False, port=port), lambda: view(IMAGE, show=False, port=port)):
        with pytest.raises(ValueError, match=f"port is {port!r}; a whole number up to 65535"):
            ask()


def test_where_there_is_no_browser_the_address_is_told(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "_tryorder", [])  # as on a machine without one
    url = viewer.show()
    told = capsys.readouterr().err
    assert f"no browser was found on this machine; open this address in a browser here: {url}" in told
    assert f"ssh -N -L {urlsplit(url).port}:127.0.0.1:" in told


def test_the_token_is_left_in_no_file(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):
        viewer.show()
    (file,) = tmp_path.iterdir()
    assert viewer.show(browser=False) in file.read_text()
    viewer.close()
    assert not list(tmp_path.iterdir())
    capsys.readouterr()


def test_a_viewer_can_be_shown_again(viewer: Viewer) -> None:
    first = viewer.show(browser=False)
    assert viewer.show(browser=False) == first
    viewer.close()
    viewer.close()
    assert viewer.show(browser=False) != first


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"plane": "axial"}, "plane is 'axial'"),
        ({"drag": "up"}, "drag is"),
        ({"window": (5, 0)}, "width of the window"),
        ({"link": "place"}, "link is 'place'; True, False, position or index"),
        ({"viewports": 0}, "viewports is 0; a whole number from 1"),
        ({"columns": -1}, "columns is -1"),
        ({"size": 99.5}, "size is 99.5"),
    ],
)
def test_what_cannot_be_shown_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        view(IMAGE, show=False, **options)
    with pytest.raises(ValueError, match="no image"):
        view([])
    with pytest.raises(ValueError, match="empty along slice"):
        view(IMAGE[:0], show=False)


def test_a_file_that_would_be_too_large_is_refused(tmp_path: Any) -> None:
    viewer = view(IMAGE, show=False)
    with pytest.raises(ValueError, match="more than largest_file=1e-05"):
        viewer.save(tmp_path / "x.html", largest_file=1e-5)
    assert not list(tmp_path.iterdir())


def test_a_frame_that_comes_when_its_page_is_gone_harms_no_other_page() -> None:
    is_gone, has_come = threading.Event(), threading.Event()

    class Late:
        frames = 1

        def frame(self, _number: int) -> bytes:
            is_gone.wait(10)
            has_come.set()
            return b""

    document, state = Document(), SeriesState()
    document.add_root(state)
    image: Any = Late()
    deliver(image, state, document)
    state.asked = [1, 0]
    document.destroy(ServerSession("gone", document))
    is_gone.set()
    assert has_come.wait(10)
    time.sleep(0.1)
    assert curdoc() is not document


def test_a_notebook_has_its_frames_at_once_and_no_threads_are_left() -> None:
    page = view(IMAGE, show=False).page()
    (state,) = page.series
    before = threading.active_count()
    state.asked = [1, 0, 2, 99]
    count, good, bad = state.parcel
    assert (count, bad) == (1, [])
    assert [k for k, _ in good] == [0, 2]
    assert all(np.array_equal(frame, IMAGE[k]) for k, frame in good)
    assert threading.active_count() == before
