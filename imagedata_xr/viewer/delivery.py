"""Frames on their way to a browser that asks for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from concurrent.futures import Future

    from imagedata_xr.viewer.models import SeriesState
    from imagedata_xr.viewer.panel import Panel

__all__ = ["deliver"]

_READERS: Final = 3


def deliver(image: Panel, state: SeriesState, document: Any | None) -> None:
    """Read the frames that a browser asks for, from now on, and send them; a frame that cannot be read is told so.

    Nothing is kept here: what is asked for is read and sent.

    Parameters
    ----------
    image : Panel
        Where frames come from.
    state : SeriesState
        Where they are asked for and sent.
    document : bokeh Document, optional
        Of a session of a server: frames are read in threads meanwhile. Without one, as in a notebook, they are read
        before the answer, few at a time as they are asked for.
    """

    def send(reads: dict[int, Future[Any]]) -> None:
        good = [[k, read.result()] for k, read in reads.items() if read.exception() is None]
        bad = [[k, _reason(read.exception())] for k, read in reads.items() if read.exception() is not None]
        told: Any = state
        told.parcel = [told.parcel[0] + 1, good, bad]

    def wanted(asked: list[int]) -> list[int]:
        return [k for k in asked[1:] if 0 <= k < image.frames]

    def answer(_name: str, _old: list[int], asked: list[int]) -> None:
        with _readers() as pool:
            send({k: pool.submit(image.frame, k) for k in wanted(asked)})

    if document is None:
        state.on_change("asked", answer)
        return
    pool = _readers()
    document.on_session_destroyed(lambda _: pool.shutdown(wait=False, cancel_futures=True))
    reading: set[int] = set()

    def read_and_send(_name: str, _old: list[int], asked: list[int]) -> None:
        for k in wanted(asked):
            # A page that has waited for long asks again, and so does another page of the session.
            if k not in reading:
                reading.add(k)
                read = pool.submit(image.frame, k)
                read.add_done_callback(partial(later, k))

    def later(k: int, read: Future[Any]) -> None:
        # None of a page that is gone: bokeh would fail, and take that document for the one of whatever is made next.
        there = state.document
        if there is not None and not read.cancelled():
            there.add_next_tick_callback(partial(done, k, read))

    def done(k: int, read: Future[Any]) -> None:
        reading.discard(k)
        send({k: read})

    state.on_change("asked", read_and_send)


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, thread_name_prefix="imagedata_xr-viewer")


def _reason(error: BaseException | None) -> str:
    """Return why a frame cannot be shown, without names of files, which may be those of patients."""
    return f"cannot be read: {type(error).__name__}"
