"""Frames on their way to a browser that asks for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
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
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="imagedata_xr-viewer")
    if document is not None:
        document.on_session_destroyed(lambda _: pool.shutdown(wait=False, cancel_futures=True))

    reading: set[int] = set()

    def send(reads: dict[int, Future[Any]]) -> None:
        good = [[k, read.result()] for k, read in reads.items() if read.exception() is None]
        bad = [[k, _reason(read.exception())] for k, read in reads.items() if read.exception() is not None]
        reading.difference_update(reads)
        told: Any = state
        told.parcel = [told.parcel[0] + 1, good, bad]

    def later(tell: Callable[[], None], done: Future[Any]) -> None:
        # None of a page that is gone: bokeh would fail, and take that document for the one of whatever is made next.
        there = state.document
        if there is not None and not done.cancelled():
            there.add_next_tick_callback(tell)

    def asked(_name: str, _old: list[int], new: list[int]) -> None:
        numbers = [k for k in new[1:] if 0 <= k < image.frames]
        if document is None:
            send({k: pool.submit(image.frame, k) for k in numbers})
            return
        for k in numbers:
            # A page that has waited for long asks again, and so does another page of the session.
            if k not in reading:
                reading.add(k)
                read = pool.submit(image.frame, k)
                read.add_done_callback(partial(later, partial(send, {k: read})))

    state.on_change("asked", asked)


def _reason(error: BaseException | None) -> str:
    """Return why a frame cannot be shown, without names of files, which may be those of patients."""
    return f"cannot be read: {type(error).__name__}"
