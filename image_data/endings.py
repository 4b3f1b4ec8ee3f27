"""Signals that ask a process to end, and would end it at once: temporary files with images of patients would stay."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["SIGNALS", "Ended", "heed"]

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Those that services, schedulers of clusters and terminals send; not every system has both."""


class Ended(KeyboardInterrupt):
    """A signal asks this process to end, which it does as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def heed() -> None:
    """Let signals that ask this process to end raise `Ended` in it, unless they are ignored or handled already."""
    if threading.current_thread() is not threading.main_thread():
        return  # signals are of the main thread alone
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    # Some send it twice, as timeout does, and a second one would stop the removal of what the first one ended.
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Ended(number)
