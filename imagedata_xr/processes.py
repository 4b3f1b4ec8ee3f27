"""Processes that end with the one that started them, however that ends."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from image_data.endings import SIGNALS
from imagedata_xr.files import remove_temporary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from types import FrameType

__all__ = ["interrupts_held", "process_pool"]

_LEAVING: Final = Lock()


@contextmanager
def process_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give an executor of so many processes; where the block raises they end at once, in the midst of their work.

    They do so as well when this process is killed, which the executor alone would not see to: they would wait for ever
    for more work. An interrupt from the terminal, which goes to them, too, they leave to this process.
    """
    # Not forked: threads of the parent may hold locks, as those of dask and the HDF5 library do.
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours:
        executor = ProcessPoolExecutor(count, context, _end_with, (theirs,))
        try:
            yield executor
        except BaseException:
            ours.close()
            executor.shutdown(cancel_futures=True)
            raise
        executor.shutdown()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold interrupts, and what asks this process to end, back until the block ends.

    Processes that are started in it get none before they are ready: one that is interrupted while it starts, or whose
    parent is while it starts it, would fill the terminal with what it was importing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *SIGNALS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: Connection) -> None:
    """Leave interrupts to the parent, and end this process when the other end of its connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:  # else it is ignored, as hangups are below nohup
            signal.signal(number, _end)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # held back while it started
    Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    _leave(1)


def _end(number: int, _frame: FrameType | None) -> None:
    """End this process at once: a signal that is sent to all of a job goes to it, too, and so does the executor's."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # a second one would end it before files are removed
    _leave(128 + number)


def _leave(status: int) -> None:
    with _LEAVING:  # whoever comes second waits for the end
        remove_temporary()
        os._exit(status)
