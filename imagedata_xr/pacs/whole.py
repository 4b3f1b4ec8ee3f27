"""Whether a data set is whole: its elements follow each other to its end, and say which instance it is."""

from __future__ import annotations

import zlib
from struct import Struct, error
from typing import TYPE_CHECKING, Final

from imagedata_xr.dicom.walk import IMPLICIT, LONG_VRS, SHORT_VRS, UNDEFINED

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagedata_xr.pacs.instances import FileInstance

__all__ = ["DEFLATED", "DamagedError", "check_whole", "identity_of", "why_unreadable"]

_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
"""Transfer syntaxes in which a data set is deflated: of what size it becomes nothing says before."""
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST: Final = 50
"""Sequences within each other that are followed."""
_FILLING: Final = (b"\0", b"\0\0")
"""How zeros begin with which some writers fill files up; no element does."""
_PIECE: Final = 1 << 20


class DamagedError(ValueError):
    """A data set is cut short, or its elements cannot be told apart."""


def identity_of(data: bytes | memoryview, syntax: str) -> tuple[str, str] | None:
    """Return SOPClassUID and SOPInstanceUID of a data set that is whole; None where it is deflated.

    Values are stepped over, and not looked at.

    Parameters
    ----------
    data : bytes
        The data set, without file meta information.
    syntax : str
        UID of its transfer syntax.

    Raises
    ------
    DamagedError
        If it ends within an element or sequence, or something stands where an element should; it says where.
    """
    if syntax in DEFLATED:
        _inflate(data)
        return None
    return _Walk(data, syntax).identity()


def check_whole(file: FileInstance, data: bytes | memoryview) -> None:
    """Raise DamagedError unless a data set is whole, and of the instance that was found in its file.

    Parameters
    ----------
    file : FileInstance
        What was found in the file.
    data : bytes
        The data set that is there now.
    """
    if identity_of(data, file.syntax) not in (None, (file.sop_class, file.uid)):
        msg = "the file has changed since it was looked at, and has another instance in it"
        raise DamagedError(msg)


def why_unreadable(err: DamagedError | OSError) -> str:
    """Return why a file is not sent, for a report that names the file."""
    if isinstance(err, OSError):
        return f"not sent, its file cannot be read: {(err.strerror or str(err)).lower()}"
    return f"not sent, {err}"


def _inflate(data: bytes | memoryview) -> None:
    """Raise DamagedError unless deflated data have an end; what they inflate to is not kept."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    rest = bytes(data)
    try:
        while rest and not stream.eof:
            stream.decompress(rest, _PIECE)
            rest = stream.unconsumed_tail
    except zlib.error as err:
        msg = "it cannot be inflated"
        raise DamagedError(msg) from err
    if not stream.eof:
        msg = "it is cut short: its deflated data have no end"
        raise DamagedError(msg)


class _Walk:
    """A walk over all elements of a data set, and over those of items without a length (PS3.5 chapter 7)."""

    def __init__(self, data: bytes | memoryview, syntax: str) -> None:
        self.data, self.size = data, len(data)
        order = ">" if syntax == _BIG_ENDIAN else "<"
        self.tag_vr_length: Callable[..., tuple[int, int, bytes, int]] = Struct(f"{order}HH2sH").unpack_from
        self.tag_length: Callable[..., tuple[int, int, int]] = Struct(f"{order}HHI").unpack_from
        self.length: Callable[..., tuple[int]] = Struct(f"{order}I").unpack_from
        self.found: dict[int, str] = {}
        # Some files are not encoded as they say, and readers take them all the same.
        self.explicit = syntax != IMPLICIT or bytes(data[4:6]) in LONG_VRS | SHORT_VRS

    def identity(self) -> tuple[str, str]:
        """Return the two UIDs, after a walk to the end."""
        try:
            self._elements(0, self.explicit, 0)
        except error as err:
            msg = f"it is cut short: it ends after {self.size} bytes within an element or sequence"
            raise DamagedError(msg) from err
        return self.found.get(_SOP_CLASS, ""), self.found.get(_SOP_INSTANCE, "")

    def _elements(self, pos: int, explicit: bool, depth: int) -> int:
        """Return where the elements end that begin at a byte: those of the data set, or of an item without a length."""
        # Within sequences some scanners leave the VRs out.
        explicit = explicit and bytes(self.data[pos + 4 : pos + 6]).isupper()
        while depth or pos < self.size:
            begin = pos
            if not depth and bytes(self.data[pos : pos + 2]) in _FILLING and not bytes(self.data[pos:]).strip(b"\0"):
                break
            if explicit:
                group, elem, vr, length = self.tag_vr_length(self.data, pos)
                pos += 8
                if group == 0xFFFE:
                    length = 0
                elif vr in LONG_VRS:
                    (length,) = self.length(self.data, pos)
                    pos += 4
                elif not vr.isupper():
                    raise self._damaged(begin)
            else:
                group, elem, length = self.tag_length(self.data, pos)
                pos += 8
                vr = b""
            tag = group << 16 | elem
            if tag == _ITEM_END and depth:
                return pos
            if group in (0, 0xFFFE):
                raise self._damaged(begin)
            if length == UNDEFINED:
                pos = self._items(pos, explicit and vr != b"UN", depth + 1)
                continue
            if length > self.size - pos:
                msg = f"it is cut short: ({group:04X},{elem:04X}) has {length} bytes, and {self.size - pos} are there"
                raise DamagedError(msg)
            if tag in (_SOP_CLASS, _SOP_INSTANCE) and not depth:
                self.found[tag] = bytes(self.data[pos : pos + length]).rstrip(b"\0 ").decode("ascii", "replace")
            pos += length
        return self.size

    def _items(self, pos: int, explicit: bool, depth: int) -> int:
        """Return where a sequence without a length, or pixels in fragments, end."""
        if depth > _DEEPEST:
            msg = f"it has more than {_DEEPEST} sequences within each other"
            raise DamagedError(msg)
        while True:
            group, elem, length = self.tag_length(self.data, pos)
            tag = group << 16 | elem
            if tag == _SEQUENCE_END:
                return pos + 8
            if tag != _ITEM:
                raise self._damaged(pos)
            pos += 8
            if length == UNDEFINED:
                pos = self._elements(pos, explicit, depth)
            elif length > self.size - pos:
                msg = f"it is cut short: an item has {length} bytes, and {self.size - pos} are there"
                raise DamagedError(msg)
            else:
                pos += length

    def _damaged(self, pos: int) -> DamagedError:
        return DamagedError(f"it is damaged: no element of DICOM is at byte {pos}")
