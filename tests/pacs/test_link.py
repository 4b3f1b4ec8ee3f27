"""An association that ends on both sides at once ends all the same, and leaves nothing open."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from imagedata_xr.pacs.association import associate, context
from imagedata_xr.pacs.peer import Peer
from imagedata_xr.pacs.retrieve import retrieve
from imagedata_xr.pacs.send import send
from tests.generate import write_series
from tests.pacs.peers import archive, slow_wire
from tests.pacs.test_identity import finder, pacs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("what", ["release", "abort"])
def test_an_end_that_is_asked_for_when_it_is_under_way(what: str) -> None:
    """pynetdicom's thread raised, which nobody hears, and left its connection open."""
    ae = AE("ARCHIVE")
    ae.add_supported_context(VERIFICATION)
    server: Any = ae.start_server(("127.0.0.1", 0), block=False)
    peer = Peer("127.0.0.1", server.socket.getsockname()[1], "ARCHIVE", timeout=60)
    began = time.monotonic()
    try:
        with associate(peer, [context(VERIFICATION)]) as link, link.paused():
            link.dul._run_loop_delay = 0.2  # both are there when its thread looks again
            time.sleep(0.05)
            link.acse.send_abort(0)
            getattr(link, what)()
            until(lambda: not link.dul.is_alive())
        until(lambda: not link.is_alive())
    finally:
        ae.shutdown()
    assert link.dul.socket is not None
    connection = link.dul.socket.socket
    assert connection is None or connection.fileno() < 0, "the connection is closed"
    assert link.dul.to_provider_queue.empty()
    assert not link.is_established
    assert time.monotonic() - began < 20


def test_a_release_while_a_report_is_answered() -> None:
    """A PACS whose report was taken heard nothing, and would send it again."""
    came, statuses = threading.Event(), list[int | None]()

    def on_report(event: Any) -> tuple[int, None]:
        came.set()
        time.sleep(0.3)
        return 0, None

    def tell(event: Any) -> None:
        result = Dataset()
        result.TransactionUID = "1.2.3"
        status, _ = event.assoc.send_n_event_report(result, 1, COMMITMENT, WELL_KNOWN)
        statuses.append(status.get("Status"))

    ae = AE("ARCHIVE")
    ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    server: Any = ae.start_server(("127.0.0.1", 0), block=False)
    server.bind(evt.EVT_ESTABLISHED, lambda event: threading.Timer(0.1, tell, [event]).start())
    peer = Peer("127.0.0.1", server.socket.getsockname()[1], "ARCHIVE", timeout=60)
    roles, handlers = [build_role(COMMITMENT, True, True)], [(evt.EVT_N_EVENT_REPORT, on_report)]
    try:
        with associate(peer, [context(COMMITMENT)], roles=roles, handlers=handlers) as link:
            assert came.wait(20)
        until(lambda: bool(statuses))
        until(lambda: not link.dul.is_alive())
    finally:
        ae.shutdown()
    assert statuses == [0]
    assert link.is_released


def test_what_waits_in_the_kernel_has_not_been_sent(tmp_path: Path) -> None:
    """The time to answer began when the kernel had taken the last byte, whole minutes before it left on a slow line."""
    files = write_series(tmp_path / "in", slices=1, rows=700, cols=700)
    with archive() as there, slow_wire(there.port, 0.02) as way:
        assert send(files, Peer("127.0.0.1", way.port, "ARCHIVE", timeout=1)).summary == "1 stored"
        assert len(there.received) == 1


def test_an_instance_may_take_longer_to_come_than_a_peer_to_answer(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", slices=1, rows=700, cols=700)
    (ds,) = (pydicom.dcmread(file) for file in files)
    with pacs(finder([ds]), lambda _: [ds]) as url, slow_wire(int(url.split(":")[2].split("/")[0]), 0.01) as way:
        found = retrieve(
            Peer("127.0.0.1", way.port, "ARCHIVE", timeout=1), tmp_path / "out", study=str(ds.StudyInstanceUID)
        )
    assert len(found) == 1
