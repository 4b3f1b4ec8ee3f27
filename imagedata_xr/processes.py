"""Processes that end with the one that started them, however that ends."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from threading import Thread
from typing import TYPE_CHECKING

from imagedata_xr.files import remove_temporary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

__all__ = ["interrupts_held", "process_pool"]


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
    """Hold interrupts back until the block ends; processes that are started in it get none.

    One that is interrupted while it starts would fill the terminal with what it was importing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: Connection) -> None:
    """Leave interrupts to the parent, and end this process when the other end of its connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    remove_temporary()
    os._exit(1)
