"""What is switched off while something runs in several threads is on again afterwards."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING

import pytest
from pydicom.config import IGNORE, settings

from imagedata_xr.quiet import filtered_warnings, without_validation

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def overlapping(block: Callable[[], AbstractContextManager[None]], within: Callable[[], None]) -> None:
    """Run two blocks, in two threads, of which the first ends before the second."""
    has_begun, has_ended = threading.Event(), threading.Event()

    def second() -> None:
        with block():
            has_begun.set()
            has_ended.wait(10)
            within()

    thread = threading.Thread(target=second)
    with block():
        thread.start()
        has_begun.wait(10)
    has_ended.set()
    thread.join()


def test_warnings_are_shown_again() -> None:
    told: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)

        def warn() -> None:
            warnings.warn("of a value", stacklevel=1)
            told.append(len(caught))

        overlapping(filtered_warnings, warn)
        assert told == [0]
        assert list(warnings.filters) == before
        warn()
        assert told == [0, 1]


def test_warnings_that_someone_else_catches_meanwhile_are_shown_again() -> None:
    before = list(warnings.filters)
    block = filtered_warnings()
    block.__enter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        block.__exit__(None, None, None)
        warnings.warn("of a value", stacklevel=1)
    assert len(caught) == 1
    assert list(warnings.filters) == before


def test_of_some_warnings_only() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with filtered_warnings(message="Value |Another"):
            for text in ("value 17 is wrong", "other values are wrong"):
                warnings.warn(text, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["other values are wrong"]
    with pytest.raises(RuntimeWarning, match="too large"), filtered_warnings("error", category=RuntimeWarning):
        warnings.warn("too large", RuntimeWarning, stacklevel=1)


def test_values_are_validated_again() -> None:
    def modes() -> tuple[int, int]:
        return settings.reading_validation_mode, settings.writing_validation_mode

    before, within = modes(), list[tuple[int, int]]()
    overlapping(without_validation, lambda: within.append(modes()))
    assert within == [(IGNORE, IGNORE)]
    assert modes() == before != (IGNORE, IGNORE)
