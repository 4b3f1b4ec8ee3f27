"""What pydicom would change of a header that is written in another encoding than it was read in.

Without a VR in its file, a private element has the one that pydicom's dictionary knows of its creator, and a scanner
may have put other bytes there: then pydicom raises, or writes less than there was. Words in big endian it leaves as
they are.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom.dataelem import DataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException

from imagedata_xr.elements import vr_of
from imagedata_xr.quiet import filtered_warnings, without_validation

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement

__all__ = ["keep_private", "make_readable", "turn_words"]

_WORDS: Final = {"OW": 2, "OL": 4, "OF": 4, "OV": 8, "OD": 8}
"""Bytes of a word of value representations that have an order of bytes and come as bytes."""
_BINARY: Final = frozenset(
    ("AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SQ", "SS", "SV", "UL", "UN", "US", "UV")
)
_NOT_AS_THEY_ARE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError, OverflowError),
    *(OSError, RecursionError, struct.error, BytesLengthException),
)
"""What pydicom raises for a value that cannot be of its VR."""


def keep_private(ds: Dataset, *, anew: bool = True) -> None:
    """Make private values that would not be encoded as they are such of unknown VR (UN), in sequences, too.

    Parameters
    ----------
    ds : Dataset
        Header as it was read; changed.
    anew : bool
        Whether all is encoded anew; else values go from file to file as bytes, but for empty ones.
    """
    with filtered_warnings(), without_validation():
        _keep_private(ds, anew)


def _keep_private(ds: Dataset, anew: bool) -> None:
    for number in list(ds.keys()):
        item: Any = ds.get_item(number, keep_deferred=True)  # it converts what is empty
        if item.is_raw and number.is_private and (anew or not item.value):
            ds[number] = item = _converted(ds, item)
        if (item.VR or vr_of(number)) == "SQ" and (anew or not item.is_raw):
            for part in _items(ds, number):
                _keep_private(part, anew)


def make_readable(ds: Dataset) -> None:
    """Make values that cannot be of their VR, of which pydicom raises, bytes of unknown VR (UN), in sequences, too.

    Parameters
    ----------
    ds : Dataset
        Header as it was read; changed. What can be read is left to be read when it is asked for.
    """
    with filtered_warnings(), without_validation():
        _make_readable(ds)


def _make_readable(ds: Dataset) -> None:
    for number in list(ds.keys()):
        item: Any = ds.get_item(number, keep_deferred=True)
        vr = item.VR
        if item.is_raw:
            try:
                vr = convert_raw_data_element(item, encoding=ds._character_set, ds=ds).VR
            except _NOT_AS_THEY_ARE:
                ds[number] = DataElement(number, "UN", item.value or b"")
                continue
        if vr == "SQ":
            for part in _items(ds, number):
                _make_readable(part)


def _items(ds: Dataset, number: int) -> list[Dataset]:
    """Return the items of a sequence; none where it cannot be read, as pydicom says when it is asked for."""
    try:
        return list(ds[number].value or ())
    except _NOT_AS_THEY_ARE:
        return []


def _converted(ds: Dataset, raw: RawDataElement) -> DataElement:
    """Return a private element with its value, or as bytes of unknown VR where these say more than the value."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    encodings, value = ds._character_set, raw.value or b""
    if raw.VR == "UN" and not value:
        return DataElement(raw.tag, "UN", value)  # as it is if it has a value
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = raw.is_little_endian, True
    try:
        element = convert_raw_data_element(raw, encoding=encodings, ds=ds)
        write_data_element(buffer, element, encodings)
        is_same = len(element.VR) == 2 and _is_same(element.VR, value, buffer.getvalue()[8:])
    except _NOT_AS_THEY_ARE:
        is_same = False
    return element if is_same else DataElement(raw.tag, "UN", value)


def _is_same(vr: str, value: bytes, again: bytes) -> bool:
    """Return whether two values are the same but for what pads them."""
    if vr in _BINARY:
        return value == again
    one, other = ([part.strip(b" \0") for part in text.split(b"\\")] for text in (value, again))
    return one == other


def turn_words(ds: Dataset) -> None:
    """Put words of a header that was read from a file in big endian in little endian, in sequences, too.

    Parameters
    ----------
    ds : Dataset
        Header; changed. pydicom has turned round all but the values that it gives as bytes.
    """
    if ds.original_encoding[1] is not False:
        return
    for number in list(ds.keys()):
        item: Any = ds.get_item(number, keep_deferred=True)
        if item.VR == "SQ":
            for part in _items(ds, number):
                turn_words(part)
        size = _WORDS.get(item.VR, 1)
        if size > 1 and item.value:
            # Bytes that make no word are in no order.
            whole = len(item.value) // size * size
            turned = np.frombuffer(item.value[:whole], f"u{size}").byteswap().tobytes() + item.value[whole:]
            ds[number] = DataElement(number, item.VR, turned)
