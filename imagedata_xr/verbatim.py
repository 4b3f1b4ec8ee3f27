"""What pydicom would change of a header that is written in another encoding than it was read in.

Without a VR in its file, a private element has the one that pydicom's dictionary knows of its creator, and a scanner
may have put other bytes there: then pydicom raises, or writes less than there was. So it does with public elements that
are not of their VR. Of text that is none in the character set of its file it writes what it has put in its place. Words
in big endian it leaves as they are.

`turn_words` and `remember_texts` are for a header that was read and is changed next, `keep_values` for one that is
written next, `keep_private` for one that is decoded as a whole, `make_readable` for one that is shown.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException

from imagedata_xr.elements import OF_CHARACTER_SET, element_vr
from imagedata_xr.quiet import filtered_warnings, without_validation

if TYPE_CHECKING:
    from pydicom import Dataset

    _Encodings = str | list[str]

__all__ = ["keep_private", "keep_values", "make_readable", "remember_texts", "turn_words"]

_WORDS: Final = {"OW": 2, "OL": 4, "OF": 4, "OV": 8, "OD": 8}
"""Bytes of a word of value representations that have an order of bytes and come as bytes."""
_BINARY: Final = frozenset(
    ("AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SQ", "SS", "SV", "UL", "UN", "US", "UV")
)
_SIZES: Final = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "AT": 4, "FD": 8, "UV": 8, "SV": 8}
"""Bytes of a number of each value representation."""
_ITEM: Final = (0xFFFE, 0xE000)
"""Tag with which each item of a sequence begins."""
_NOT_AS_THEY_ARE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError, OverflowError),
    *(OSError, RecursionError, struct.error, BytesLengthException),
)
"""What pydicom raises for a value that cannot be of its VR."""


class _Bytes(DataElement):
    """An element that is written as the bytes that it has, whatever its VR."""

    is_raw = True
    length = 0  # of no sequence with an end of its own


class _Text(DataElement):
    """Text that was read with other letters in place of bytes that are none."""

    def __init__(self, raw: RawDataElement, element: DataElement, encodings: _Encodings) -> None:
        super().__init__(raw.tag, element.VR, element.value)
        self.before = _bytes(raw, element.VR)
        self._read, self._encodings = str(element.value), encodings

    def is_unchanged(self, encodings: _Encodings) -> bool:
        """Return whether it is still what was read, in a header of these encodings."""
        return str(self.value) == self._read and encodings == self._encodings


def _bytes(raw: RawDataElement, vr: str) -> _Bytes:
    """Return a public element as the bytes that it has, with a VR of its own."""
    value = raw.value or b""
    element = _Bytes(raw.tag, "OB", value + (b" " if vr in OF_CHARACTER_SET else b"\0") * (len(value) % 2))
    element.VR = vr
    return element


def keep_private(ds: Dataset) -> None:
    """Make private values that would not be encoded as they are such of unknown VR (UN), in sequences, too.

    Parameters
    ----------
    ds : Dataset
        Header as it was read; changed.
    """
    with filtered_warnings(), without_validation():
        _keep(ds, anew=True, encodings=None)


def keep_values(ds: Dataset, *, anew: bool = True) -> None:
    """Do as `keep_private`, and with public values that are not of their VR; text is written with the bytes it had.

    Parameters
    ----------
    ds : Dataset
        Header that is written next; changed. After this the value of some texts is bytes.
    anew : bool
        Whether all is encoded anew; else values go from file to file as bytes, but for empty ones.
    """
    with filtered_warnings(), without_validation():
        _keep(ds, anew=anew, encodings=ds._character_set)


def remember_texts(ds: Dataset) -> None:
    """Let public text that is none in its character set remember the bytes that it had, for `keep_values`.

    Parameters
    ----------
    ds : Dataset
        Header as it was read; changed. Sequences that are cut short are of unknown VR after this.
    """
    with filtered_warnings(), without_validation():
        _remember_texts(ds, anew=ds.original_encoding != (False, True))


def _remember_texts(ds: Dataset, *, anew: bool) -> None:
    for number in list(ds.keys()):
        item: Any = ds.get_item(number, keep_deferred=True)
        if number.is_private:
            continue
        if item.is_raw:
            element = _misread(ds, item)
            if element is not None:
                ds[number] = _Text(item, element, ds._character_set)
            elif anew and _is_cut(item):
                ds[number] = item = _bytes(item, "UN")
        if anew and element_vr(item) == "SQ":
            for part in _items(ds, number):
                _remember_texts(part, anew=anew)


def _keep(ds: Dataset, *, anew: bool, encodings: _Encodings | None) -> None:
    """Keep private values, and public ones where the encodings of the header are given."""
    if encodings is not None and "SpecificCharacterSet" in ds:
        encodings = ds._character_set
    for number in list(ds.keys()):
        item: Any = ds.get_item(number, keep_deferred=True)  # it converts what is empty
        if number.is_private:
            if item.is_raw and (anew or not item.value):
                ds[number] = item = _converted(ds, item)
        elif encodings is not None:
            if isinstance(item, _Text) and item.is_unchanged(encodings):
                ds[number] = item = item.before
            elif anew and isinstance(item, RawDataElement) and item.value:
                ds[number] = item = _kept(ds, item)
        if element_vr(item) == "SQ" and (anew or not item.is_raw):
            for part in _items(ds, number):
                _keep(part, anew=anew, encodings=encodings)


def _kept(ds: Dataset, raw: RawDataElement) -> DataElement | RawDataElement:
    """Return a public element as it is, or as bytes where pydicom would change it."""
    if len(raw.value or b"") % _SIZES.get(element_vr(raw), 1) or _is_cut(raw):
        return _bytes(raw, "UN")
    element = _misread(ds, raw)
    return raw if element is None else _bytes(raw, element.VR)


def _misread(ds: Dataset, raw: RawDataElement) -> DataElement | None:
    """Return a text that pydicom would write with other bytes; None where it would not."""
    value = raw.value or b""
    if element_vr(raw) not in OF_CHARACTER_SET or (value.isascii() and b"\x1b" not in value):
        return None
    element = convert_raw_data_element(raw, encoding=ds._character_set, ds=ds)
    return None if _is_same(element.VR, value, _written(ds, element)) else element


def _written(ds: Dataset, element: DataElement, *, is_little_endian: bool = True) -> bytes:
    """Return the bytes that pydicom would write of the value of an element of a header."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = is_little_endian, True
    write_data_element(buffer, element, ds._character_set)
    return buffer.getvalue()[8:]  # behind tag and length


def _is_cut(raw: RawDataElement) -> bool:
    """Return whether an element is a sequence whose items do not end with it, as far as they tell their length."""
    if element_vr(raw) != "SQ":
        return False
    order = "<" if raw.is_little_endian else ">"
    item = struct.pack(f"{order}HH", *_ITEM)
    value, at = raw.value or b"", 0
    while at < len(value):
        if value[at : at + 4] != item or at + 8 > len(value):
            return True
        (length,) = struct.unpack_from(f"{order}I", value, at + 4)
        if length == 0xFFFFFFFF:
            return False
        at += 8 + length
    return at > len(value)


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
        vr = _readable_vr(ds, item) if item.is_raw else item.VR
        if vr is None:
            # Of unknown VR from the beginning a public element would get the one that it should have.
            ds[number] = element = DataElement(number, "OB", item.value or b"")
            element.VR = "UN"
        elif vr == "SQ":
            for part in _items(ds, number):
                _make_readable(part)


def _readable_vr(ds: Dataset, raw: RawDataElement) -> str | None:
    """Return the VR of an element as pydicom reads it; None where it raises, or leaves out what is there."""
    try:
        vr: str = convert_raw_data_element(raw, encoding=ds._character_set, ds=ds).VR
    except _NOT_AS_THEY_ARE:
        return None
    return None if _is_cut(raw) else vr


def _items(ds: Dataset, number: int) -> list[Dataset]:
    """Return the items of a sequence; none where it cannot be read, as pydicom says when it is asked for."""
    try:
        return list(ds[number].value or ())
    except _NOT_AS_THEY_ARE:
        return []


def _converted(ds: Dataset, raw: RawDataElement) -> DataElement:
    """Return a private element with its value, or as bytes of unknown VR where these say more than the value."""
    value = raw.value or b""
    if raw.VR == "UN" and not value:
        return DataElement(raw.tag, "UN", value)  # as it is if it has a value
    try:
        element = convert_raw_data_element(raw, encoding=ds._character_set, ds=ds)
        again = _written(ds, element, is_little_endian=raw.is_little_endian)
        is_same = len(element.VR) == 2 and _is_same(element.VR, value, again)
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
