"""Files that were made to the disk."""

from __future__ import annotations

import os
from collections import deque
from threading import local
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.dicom.pixels import LyingPixels

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from numpy.typing import NDArray

__all__ = ["Part", "Parts", "Saver"]

Part = bytes | memoryview | LyingPixels
Parts = tuple[Part, ...]
"""A file, in parts that follow each other."""

_AT_ONCE: Final = 8
"""Files at most that are handed over to be written together."""
_MOST_HELD: Final = 8_000_000
"""Bytes in memory from which on fewer are."""
_MOST_SAVING: Final = 4
"""Such lots that wait to be written, made already."""
_QUICK: Final = 0.5e-3
"""Seconds for a file up to which writing is quick, on average."""
_TRIED: Final = 64
"""Files of which each may take twice as long."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Saver:
    """Writes files: here as long as that is quick, else in threads, while the next ones are made.

    A thread that does little between two calls of the system waits for the interpreter longer than for the disk,
    unless what makes the files is arithmetic, which frees the interpreter.
    """

    def __init__(self, threads: ThreadPoolExecutor, *, is_quick: bool) -> None:
        self._threads = threads
        self._is_quick = is_quick
        self._saving: deque[Future[None]] = deque()
        self._lot: list[tuple[str, Parts]] = []
        self._held = 0
        self._own = local()
        self._left = _QUICK * _TRIED

    def add(self, path: str, parts: Parts) -> None:
        """Take a new file that is to be written; wait if many are taken already."""
        self._lot.append((path, parts))
        self._held += sum([len(part) for part in parts if not isinstance(part, LyingPixels)])
        if len(self._lot) == _AT_ONCE or self._held >= _MOST_HELD:
            self.hand_over()

    def hand_over(self) -> None:
        """Write what was taken, or let it be written."""
        if self._is_quick:
            begin = perf_counter()
            self._save(self._lot)
            self._left += begin - perf_counter() + _QUICK * len(self._lot)
            self._is_quick = self._left > 0
        else:
            self._saving.append(self._threads.submit(self._save, self._lot))
            if len(self._saving) > _MOST_SAVING:
                self._saving.popleft().result()
        self._lot, self._held = [], 0

    def wait(self) -> None:
        """Return when all is written that was handed over."""
        for saved in self._saving:
            saved.result()

    def _save(self, files: list[tuple[str, Parts]]) -> None:
        """Write new files; a stream and its buffers would cost as much as the rest of a frame."""
        for path, parts in files:
            whole = [self._as_bytes(part) for part in parts]
            handle = os.open(path, _NEW, 0o666)
            try:
                done = os.writev(handle, whole) if hasattr(os, "writev") else 0
                if done < sum(map(len, whole)):
                    left = memoryview(b"".join(whole))[done:]
                    while left:
                        left = left[os.write(handle, left) :]
            finally:
                os.close(handle)

    def _as_bytes(self, part: Part) -> bytes | memoryview:
        if not isinstance(part, LyingPixels):
            return part
        buffer: NDArray[np.uint8] | None = getattr(self._own, "buffer", None)
        if buffer is None or buffer.size != part.form.size:
            self._own.buffer = buffer = np.empty(part.form.size, np.uint8)
        return part.read(buffer)
