"""One DICOM element to one plain Python value, and back.

A value is a ``str``, ``int``, ``float`` or a list of these: what netCDF and Zarr keep, and what compares equal when it
is equal. An empty element is ``""``. Sequences, bulk data and unknown elements have no such value; they stay in the
files, from where `imagedata_xr.headers.header` brings them whole.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag, Tag

from imagedata_xr.quiet import filtered_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "OF_CHARACTER_SET",
    "WITHOUT_VALUE",
    "Raw",
    "Value",
    "decimal_string",
    "decode",
    "decode_all",
    "element_vr",
    "encode",
    "keyword",
    "raw_of",
    "tag",
    "to_element",
    "to_value",
    "unquoted",
    "vr_of",
]

_TYPE_OF_NUMBER: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}

Scalar = str | int | float
Value = Scalar | list[str] | list[int] | list[float] | list[Scalar]

WITHOUT_VALUE: Final = frozenset(("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW", "US or OW"))
"""Value representations of sequences and bulk data."""
_ASCII_TEXT: Final = frozenset(("AE", "AS", "CS", "DA", "DT", "TM", "UI"))
_TEXT: Final = frozenset(("LO", "SH", "PN", "UC"))
_LONG_TEXT: Final = frozenset(("LT", "ST", "UT"))
"""Text that may have backslashes in it: it is one value."""
OF_CHARACTER_SET: Final = _TEXT | _LONG_TEXT
"""Value representations of text in the character set that the file declares (PS3.5 6.1.2.3)."""
_PADDING: Final = " \0"


class Raw(NamedTuple):
    """An element's value representation and its value as it lies in a file, little endian."""

    vr: str
    value: bytes


@lru_cache(maxsize=4096)
def tag(name: str | int) -> int:
    """Return the number of a tag given by keyword, ``"0018,0081"``, ``"(0018,0081)"``, ``"00180081"`` or number.

    Raises
    ------
    ValueError
        If `name` is neither a DICOM keyword nor a tag.

    Examples
    --------
    >>> f"{tag('EchoTime'):08X}", tag("0018,0081") == tag(0x00180081)
    ('00180081', True)
    """
    if isinstance(name, int):
        return name
    known = tag_for_keyword(name) if name else None
    if known is not None:
        return int(known)
    digits = name.strip("() ").replace(",", "").replace(" ", "")
    try:
        if len(digits) != 8:
            raise ValueError
        return int(digits, 16)
    except ValueError:
        msg = f"{name!r} is neither a DICOM keyword (EchoTime) nor a tag (0018,0081)"
        raise ValueError(msg) from None


@lru_cache(maxsize=4096)
def keyword(number: int) -> str:
    """Return the keyword of a public tag, or "" where the dictionary has none.

    Examples
    --------
    >>> keyword(0x00180081)
    'EchoTime'
    """
    return keyword_for_tag(Tag(number))


@lru_cache(maxsize=4096)
def vr_of(number: int) -> str:
    """Return the value representation that PS3.6 gives a public tag, or "UN".

    Examples
    --------
    >>> vr_of(0x00180081)
    'DS'
    """
    if not dictionary_has_tag(number):
        return "UN"
    return dictionary_VR(number)


def element_vr(element: DataElement | RawDataElement) -> str:
    """Return the VR of an element: its own, or that of its tag if it comes from a file in implicit VR."""
    return element.VR or vr_of(element.tag)


def _plain(value: Any) -> Scalar:
    """Return one component of an element's value as str, int or float."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, BaseTag):
        return f"{int(value):08X}"
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value).strip(_PADDING)


def to_value(element: DataElement) -> Value | None:
    """Return the value of an element as str, int, float or a list of these; None if it has none of these kinds.

    Parameters
    ----------
    element : pydicom.DataElement
        Any element. Empty ones give ``""``; sequences and bulk data give None.

    Examples
    --------
    >>> from pydicom.dataelem import DataElement
    >>> to_value(DataElement("PixelSpacing", "DS", ["0.5", "0.5"])), to_value(DataElement("PatientName", "PN", "A^B"))
    ([0.5, 0.5], 'A^B')
    """
    if element.VR in WITHOUT_VALUE:
        return None
    value = element.value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return None
    if isinstance(value, str) or not hasattr(value, "__iter__") or (element.VR == "PN" and element.VM == 1):
        return "" if value == "" else _plain(value)
    parts = [_plain(v) if v is not None else "" for v in value]
    if len({isinstance(part, str) for part in parts}) > 1:
        # Numbers with a gap between them: netCDF keeps no such list.
        return "\\".join(map(str, parts))
    return parts if parts else ""


def to_element(name: str | int, value: Value) -> DataElement:
    """Return the element that holds a value; the reverse of `to_value`.

    Parameters
    ----------
    name : str or int
        Keyword or tag of a public element.
    value : str, int, float or list of these
        ``""`` gives an empty element. A string with backslashes is several values.

    Raises
    ------
    ValueError
        If the element is unknown, or cannot hold the value.

    Examples
    --------
    >>> to_element("EchoTime", 4.5)
    (0018,0081) Echo Time                           DS: '4.5'
    """
    number = tag(name)
    vr = vr_of(number)
    if vr in WITHOUT_VALUE:
        msg = f"{keyword(number) or name!r} has value representation {vr}: it cannot be set from {value!r}"
        raise ValueError(msg)
    vr = vr.split(" or ")[0]
    parts: Any = value
    if isinstance(parts, str) and vr not in ("ST", "LT", "UT", "UR"):
        parts = parts.split("\\") if "\\" in parts else parts
    if hasattr(parts, "tolist"):
        parts = parts.tolist()
    many = isinstance(parts, list | tuple)
    try:
        done = [_component(vr, p) for p in (parts if many else [parts])]
        return DataElement(Tag(number), vr, done if many else done[0])
    except (ValueError, TypeError, OverflowError, struct.error) as err:
        msg = f"{keyword(number) or name!r} ({vr}) cannot hold {value!r}: {err}"
        raise ValueError(msg) from err


def _component(vr: str, value: Any) -> Any:
    """Return one value in the type that pydicom wants for a value representation."""
    if value in ("", None):
        return None if vr in _TYPE_OF_NUMBER or vr in ("DS", "IS", "AT") else ""
    if vr == "DS":
        return value if isinstance(value, str) else decimal_string(float(value))
    if vr in ("IS", "US", "SS", "UL", "SL", "UV", "SV"):
        if float(value) != int(float(value)):
            msg = "not a whole number"
            raise ValueError(msg)
        number = value if isinstance(value, int) else int(float(value))
        struct.pack("i" if vr == "IS" else _TYPE_OF_NUMBER[vr], number)
        return number
    if vr in ("FL", "FD"):
        return float(value)
    if vr == "AT":
        return int(value, 16) if isinstance(value, str) else int(value)
    return str(value)


def decimal_string(value: float) -> str:
    """Return the closest decimal string (DS, at most 16 characters) of a number.

    Raises
    ------
    ValueError
        If the number is not finite: DICOM has no such decimal string (PS3.5 6.2).

    Examples
    --------
    >>> decimal_string(1 / 3), decimal_string(-120.0), decimal_string(1.5e-300)
    ('0.33333333333333', '-120', '1.5e-300')
    """
    if not abs(value) < float("inf"):
        msg = f"{value} is not a decimal number"
        raise ValueError(msg)
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    for digits in range(17, 0, -1):
        text = f"{value:.{digits}g}"
        if "e" in text:
            mantissa, exponent = text.split("e")
            text = f"{mantissa}e{int(exponent)}"
        if len(text) <= 16:
            short = repr(value)
            return short if len(short) <= 16 else text
    msg = f"{value!r} does not fit into 16 characters"
    raise ValueError(msg)


def decode(number: int, raw: Raw, encodings: Sequence[str] = ("iso8859",)) -> Value | None:
    """Return the value of an element from its bytes; equal to `to_value` of what pydicom makes of them.

    Parameters
    ----------
    number : int
        The tag.
    raw : Raw
        Value representation and little endian bytes.
    encodings : sequence of str
        Python's names of the character sets (SpecificCharacterSet).

    Returns
    -------
    str, int, float, list of these, or None
        A decimal or integer string that is no number comes back as the text that it is; None of tags that are cut.

    Raises
    ------
    ValueError
        If the bytes cannot be of this value representation.
    """
    vr, value = raw
    if vr in WITHOUT_VALUE:
        return None
    if not value:
        return ""
    fast = _decode_fast(vr, value)
    if fast is not None:
        return fast
    if vr == "AT" and len(value) % 4:  # pydicom leaves out what is too much, and would write it so
        return None
    try:
        with unquoted():
            element = convert_raw_data_element(
                RawDataElement(Tag(number), vr, len(value), value, 0, False, True), encoding=list(encodings)
            )
    except (ValueError, TypeError, OverflowError, LookupError, BytesLengthException) as err:
        if vr in ("DS", "IS"):
            return value.decode("ascii", "replace").strip(_PADDING)
        msg = f"{keyword(number) or number} ({vr}) cannot be {len(value)} bytes long"
        raise ValueError(msg) from err
    return to_value(element)


def decode_all(
    number: int, vr: str, values: Sequence[bytes], encodings: Sequence[str] = ("iso8859",)
) -> list[Value | None]:
    """Return the values of one element in several files, as `decode` does one by one, or raise what it raises."""
    found = _decode_together(vr, values)
    return [decode(number, Raw(vr, value), encodings) for value in values] if found is None else found


def _decode_together(vr: str, values: Sequence[bytes]) -> list[Value | None] | None:
    """Return the values of plain cases that are alike, or None: then they have to be looked at one by one."""
    numbers: list[Any]
    code = _TYPE_OF_NUMBER.get(vr)
    if code is not None:
        lengths, width = set(map(len, values)), struct.calcsize(f"<{code}")
        size, odd = divmod(lengths.pop(), width)
        if lengths or odd or not size:
            return None
        numbers = list(struct.unpack(f"<{len(values) * size}{code}", b"".join(values)))
        return numbers if size == 1 else [numbers[k : k + size] for k in range(0, len(numbers), size)]
    together = b"\n".join(values)
    if not together.isascii() or b"\x1b" in together or together.count(b"\n") >= len(values):
        return None
    if vr in _ASCII_TEXT or vr in _TEXT:
        if b"\\" in together or (vr == "PN" and b"=" in together):
            return None
        return [text.strip(_PADDING) for text in together.decode("ascii").split("\n")]
    if vr not in ("DS", "IS"):
        return None
    counts = {value.count(b"\\") for value in values} if b"\\" in together else {0}
    if len(counts) != 1:
        return None
    try:
        # An empty value is no number, and makes the whole be looked at one by one.
        parts = together.replace(b"\n", b"\\").decode("ascii").split("\\")
        numbers = list(map(float if vr == "DS" else int, parts))
    except ValueError:
        return None
    size = counts.pop() + 1
    return numbers if size == 1 else [numbers[k : k + size] for k in range(0, len(numbers), size)]


def raw_of(number: int, item: Any, *, signed: bool = False) -> Raw | None:
    """Return the bytes of an element as pydicom read it, little endian; None for bulk data and what is unknown.

    Parameters
    ----------
    number : int
        The tag.
    item : pydicom.RawDataElement or pydicom.DataElement
        As ``Dataset.get_item`` gives it. Of a sequence only that it is one is told.
    signed : bool
        Whether an element that is "US or SS" is SS (PixelRepresentation).

    Raises
    ------
    EOFError, ValueError
        If its value is shorter than the element says, or of no known kind.
    """
    from pydicom.valuerep import VR

    vr = vr_of(number) if item.VR in (None, "UN") else item.VR
    if vr == "US or SS":
        vr = "SS" if signed else "US"
    if vr == "SQ":
        return Raw("SQ", b"")
    if " or " in vr or VR(vr) in WITHOUT_VALUE:
        return None
    if isinstance(item, DataElement):  # SpecificCharacterSet, which pydicom needs to read on, and empty ones
        text = item.value or ""
        return Raw(vr, (text if isinstance(text, str) else "\\".join(text)).encode("latin-1", "replace"))
    value = item.value or b""
    if item.length != len(value):
        raise EOFError
    if not item.is_little_endian:
        width = struct.calcsize(_TYPE_OF_NUMBER.get(vr, "H" if vr == "AT" else "B"))
        if len(value) % width:
            raise EOFError
        value = b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))
    return Raw(vr, value)


@contextmanager
def unquoted() -> Iterator[None]:
    """Keep back pydicom's warnings of odd values: they quote the value, which may be a patient's."""
    with filtered_warnings(message="Invalid value for VR|The value length|A value of type|Value "):
        yield


def encode(name: str | int, value: Value) -> Raw:
    r"""Return the bytes of an element that holds a value; the reverse of `decode`.

    Parameters
    ----------
    name : str or int
        Keyword or tag of a public element.
    value : str, int, float or list of these
        Text of ASCII characters only, since bytes of other text depend on the character set of the file.

    Raises
    ------
    ValueError
        If the element is unknown, or cannot hold the value.

    Examples
    --------
    >>> encode("EchoTime", 4.5), encode("Rows", 64)
    (Raw(vr='DS', value=b'4.5'), Raw(vr='US', value=b'@\x00'))
    """
    element = to_element(name, value)
    vr = str(element.VR)
    stored = element.value
    parts = [] if stored in (None, "") else list(stored) if element.VM > 1 else [stored]
    if vr == "AT":
        return Raw(vr, b"".join(struct.pack("<HH", int(p) >> 16, int(p) & 0xFFFF) for p in parts))
    code = _TYPE_OF_NUMBER.get(vr)
    if code is not None:
        return Raw(vr, struct.pack(f"<{len(parts)}{code}", *parts))
    return Raw(vr, "\\".join(map(str, parts)).encode("ascii"))


def _decode_fast(vr: str, value: bytes) -> Value | None:
    """Return the value of the plain cases, or None where pydicom has to say."""
    code = _TYPE_OF_NUMBER.get(vr)
    if code is not None:
        count, rest = divmod(len(value), struct.calcsize(code))
        if rest:
            return None
        numbers = list(struct.unpack(f"<{count}{code}", value))
        return numbers[0] if count == 1 else numbers
    if not value.isascii() or b"\x1b" in value or (vr == "PN" and b"=" in value):
        return None
    if vr in _ASCII_TEXT or vr in _TEXT:
        text = value.decode("ascii")
        if "\\" not in text:
            return text.strip(_PADDING)
        return [part.strip(_PADDING) for part in text.rstrip(_PADDING).split("\\")]
    if vr in _LONG_TEXT:
        return value.decode("ascii").strip(_PADDING)
    if vr not in ("DS", "IS"):
        return None
    try:
        kind = float if vr == "DS" else int
        parts = [kind(p) for p in value.decode("ascii").strip(_PADDING).split("\\")]
    except ValueError:
        return None
    return parts[0] if len(parts) == 1 else parts
