"""Siemens' CSA header: what MR scanners up to syngo MR E11 say beside the DICOM elements.

It lies as bytes in (0029,xx10) of the private block "SIEMENS CSA HEADER" and holds named lists of strings. Siemens
describes it in the conformance statements of its scanners only by name; the layout below is that of the files. All
numbers are little endian and 4 bytes long:

- version 2 begins with ``SV10`` and 4 bytes more, version 1 with nothing;
- number of tags, and a 77;
- each tag: name (64 bytes), multiplicity, VR (4 bytes), a type, number of items, a 77 or 205;
- each item: 4 numbers that tell its length, then as many bytes, filled up to a multiple of 4.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import UnreadableFileError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["CREATOR", "csa", "parse_csa"]

CREATOR: Final = "SIEMENS CSA HEADER"
_COUNT: Final = Struct("<II").unpack_from
_TAG: Final = Struct("<64si4siii")
_ITEM: Final = Struct("<4i")
_MOST_TAGS: Final = 1024
"""Scanners write about 100."""
_MOST_ITEMS: Final = 1 << 16


def csa(dataset: Dataset) -> dict[str, list[str]]:
    """Return the CSA image header of a file: name to values, each a string without blanks at its ends.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The whole header of a Siemens file.

    Returns
    -------
    dict of str to list of str
        Empty if the file has no CSA header. Tags without values have empty lists.

    Raises
    ------
    UnreadableFileError
        If there is one that is damaged.
    """
    try:
        data = dataset.private_block(0x0029, CREATOR)[0x10].value
    except KeyError:
        return {}
    try:
        return parse_csa(bytes(data or b""))
    except UnreadableFileError as err:
        msg = f"{getattr(dataset, 'filename', None) or 'a file'}: {err}"
        raise UnreadableFileError(msg) from err


def parse_csa(data: bytes) -> dict[str, list[str]]:
    """Return what the bytes of a CSA header say, see `csa`.

    Raises
    ------
    UnreadableFileError
        If the bytes are not a CSA header, or one that is cut short.

    Examples
    --------
    >>> from struct import pack
    >>> tag = pack("<64si4siii", b"B_value", 1, b"IS", 6, 1, 77)
    >>> item = pack("<4i4s", 3, 3, 77, 3, b"800")
    >>> parse_csa(b"SV10" + bytes((4, 3, 2, 1)) + pack("<II", 1, 77) + tag + item)
    {'B_value': ['800']}
    """
    if not data.strip(b"\0"):
        return {}
    second = data[:4] == b"SV10"
    pos = 8 if second else 0
    if len(data) < pos + 8:
        raise _damaged(data, pos)
    count, _ = _COUNT(data, pos)
    if not 1 <= count <= _MOST_TAGS:
        raise _damaged(data, pos)
    pos += 8
    found: dict[str, list[str]] = {}
    base = None
    for _ in range(count):
        if pos + _TAG.size > len(data):
            raise _damaged(data, pos)
        name, multiplicity, _vr, _kind, items, _mark = _TAG.unpack_from(data, pos)
        pos += _TAG.size
        if not 0 <= items <= _MOST_ITEMS:
            raise _damaged(data, pos)
        # The lengths of version 1 are too large by the number of items of the first tag.
        base = items if base is None else base
        values, pos = _values(data, pos, items, 0 if second else base, version=2 if second else 1)
        wanted = multiplicity if multiplicity > 0 else len(values)
        found[_text(name)] = [v for v in values[:wanted] if v]
    return found


def _values(data: bytes, pos: int, items: int, base: int, *, version: int) -> tuple[list[str], int]:
    """Return the items of a tag and where the next tag begins."""
    values: list[str] = []
    for _ in range(items):
        if pos + _ITEM.size > len(data):
            raise _damaged(data, pos)
        numbers = _ITEM.unpack_from(data, pos)
        pos += _ITEM.size
        length = numbers[1] if version == 2 else numbers[0] - base
        if length < 0 and version == 1:
            # Scanners leave the numbers of the last items unset.
            break
        if not 0 <= length <= len(data) - pos:
            raise _damaged(data, pos)
        values.append(_text(data[pos : pos + length]))
        pos += length + -length % 4
    return values, pos


def _text(data: bytes) -> str:
    """Return the text up to the first zero byte."""
    return data.partition(b"\0")[0].decode("latin-1").strip()


def _damaged(data: bytes, pos: int) -> UnreadableFileError:
    return UnreadableFileError(f"the CSA header is damaged at byte {pos} of {len(data)}")
