"""Frames that do not lie plainly in their file: compressed, deflated, big endian, bit by bit, plane by plane.

pydicom reads the few elements that describe the pixels and decodes one frame at a time, from the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Self

import numpy as np
from pydicom.uid import UID

from imagedata_xr.dicom.damage import DAMAGE
from imagedata_xr.dicom.layout import Walker
from imagedata_xr.dicom.walk import UNDEFINED, Head, ShortHeadError, StepAside, meta_of
from imagedata_xr.elements import decode, tag
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.options import OPTIONS
from imagedata_xr.streams import is_elsewhere

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from imagedata_xr.elements import Raw

__all__ = ["DEFLATED", "Before", "Pixels", "check_deflated", "guessed_syntax"]

DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_PIECE: Final = 1 << 24
_HEAD: Final = 1 << 16
"""Bytes in which a head has to end for its frames to be decoded without pydicom's help."""
_AT_ONCE: Final = 1 << 20
"""Bytes of a file of this machine that are read with its head: most often all of them."""
_WANTED: Final = (
    *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102),
    *(0x00280103, 0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203),
    *(0x00281221, 0x00281222, 0x00281223, 0x7FE00001, 0x7FE00002),
)
_VRS_OF_PIXELS: Final = (b"OB", b"OW", b"OF", b"OD", b"UN")
"""None of these is how an even length begins, which a value without a VR has in their place."""
_KEYWORDS: Final = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
_FAILURES: Final = (*DAMAGE, RuntimeError, AssertionError)
"""What decoders raise beside pydicom."""


class Before:
    """What the files before let one know of the next, and memory for what is read of them.

    New memory costs as much as reading what goes there.
    """

    def __init__(self) -> None:
        self.walker = Walker()
        self._room = bytearray()
        self._form: tuple[dict[int, Raw] | None, _Monochrome | None] = (None, None)

    def read(self, file: BinaryIO, length: int) -> memoryview:
        """Return bytes of a file, which are there until the next ones are read."""
        if len(self._room) < length:
            self._room = bytearray(length)
        view = memoryview(self._room)[:length]
        return view[: file.readinto(view)]  # type: ignore[attr-defined]

    def form_of(self, head: Head) -> _Monochrome | None:
        """Return how compressed frames are stored, as `_Monochrome.of` does."""
        shared, kinds, _ = head.elements
        if shared is not self._form[0]:
            form = _Monochrome.of(head)
            if any(number in _WANTED for number, _ in kinds):
                return form
            self._form = shared, form
        return self._form[1]


class Pixels:
    """What is needed to decode the frames of one file."""

    def __init__(self, path: str, file: BinaryIO, before: Before | None = None) -> None:
        """Read how the pixels of a file are stored, and where.

        Raises
        ------
        UnreadableFileError
            If the header cannot be read, or nothing decodes the transfer syntax.
        """
        self.path = path
        self._before = before or Before()
        self._view = memoryview(b"")
        """The first bytes of the file, if they are at hand."""
        self._data: bytes | None = None
        self._table: tuple[list[int], list[int]] | None = None
        self._first = 0
        self._plain = self._of_plain_header(file)
        if self._plain is None:
            self._by_pydicom(file)

    def _of_plain_header(self, file: BinaryIO) -> _Monochrome | None:
        """Return how compressed frames are stored, None for what pydicom has to look at."""
        size = file.seek(0, 2)
        file.seek(0)
        self._view = self._before.read(file, min(size, _HEAD if is_elsewhere(self.path) else _AT_ONCE))
        try:
            head = self._before.walker.walk(bytes(self._view[:_HEAD]), size)
            form = self._before.form_of(head)
            if form is None or head.pixel_tag != 0x7FE00010 or head.pixel_length != UNDEFINED:
                return None
            self.syntax, self._start = UID(head.syntax), head.pixel_offset
            self._find_fragments(file, form.frames)
        except (StepAside, ShortHeadError, ValueError, UnreadableFileError):
            return None
        return form if self._table is not None else None

    def _by_pydicom(self, file: BinaryIO) -> None:
        """Have pydicom read how the pixels of a file are stored, and where."""
        import pydicom

        from imagedata_xr.dicom.codecs import why_not

        path = self.path
        try:
            check_deflated(path, file)
            self._dataset: Dataset = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(_WANTED)
            )
            meta = getattr(self._dataset, "file_meta", {})
            self.syntax = UID(str(meta.get("TransferSyntaxUID", "") or guessed_syntax(self._dataset)))
            reason = why_not(self.syntax)
            if reason:
                msg = f"cannot decode {path}: it is {reason}"
                raise UnreadableFileError(msg)
            if self.syntax == DEFLATED:
                # What pydicom inflated is in memory anyway.
                file.seek(0)
                whole = pydicom.dcmread(file, force=True)
                self._keyword = next(k for k in _KEYWORDS.values() if k in whole)
                self._vr, self._data = str(whole[self._keyword].VR), bytes(whole[self._keyword].value or b"")
            else:
                self._find_value(file)
        except StopIteration:
            msg = f"{path} has no pixel data"
            raise UnreadableFileError(msg) from None
        except _FAILURES as err:
            msg = f"{path} is a damaged DICOM file: {type(err).__name__} in its header"
            raise UnreadableFileError(msg) from err

    def _find_value(self, file: BinaryIO) -> None:
        """Find where the value of the pixel data begins; the file stands at their element."""
        implicit, little = self._dataset.original_encoding
        order = "<" if little else ">"
        group, element = struct.unpack(f"{order}HH", file.read(4))
        if group != 0x7FE0:
            raise StopIteration
        self._keyword, self._vr = _KEYWORDS[element], "OW"
        rest = file.read(4)
        # pydicom reads elements that are not written as the transfer syntax says; then so are the pixels.
        if rest[:2] in _VRS_OF_PIXELS or (not implicit and rest[:2].isalpha()):
            self._vr = rest[:2].decode("ascii")
            file.read(4)
        self._start = file.tell()
        if self.syntax.is_encapsulated:
            frames = int(self._dataset.get("NumberOfFrames") or 1)
            self._find_fragments(file, 0 if "ExtendedOffsetTable" in self._dataset else frames)

    def _find_fragments(self, file: BinaryIO, frames: int) -> None:
        """Find the fragments, so that frames of one fragment each need no search; the first is the offset table.

        Raises
        ------
        UnreadableFileError
            If the file ends within them.
        """
        size, starts, lengths = file.seek(0, 2), [], []
        at = self._start
        while len(item := self._bytes_at(file, at, 8)) == 8:
            group, element, length = struct.unpack("<HHI", item)
            if (group, element) == (0xFFFE, 0xE0DD):
                break
            if (group, element) != (0xFFFE, 0xE000) or at + 8 + length > size:
                msg = f"{self.path} is cut short: its compressed pixel data are not complete"
                raise UnreadableFileError(msg)
            starts.append(at)
            lengths.append(length)
            at += 8 + length
        else:
            msg = f"{self.path} is cut short: it ends before the end mark of its compressed pixel data"
            raise UnreadableFileError(msg)
        if frames and len(starts) == frames + 1:
            self._table = [s - starts[1] for s in starts[1:]], lengths[1:]
            self._first = starts[1]

    def _bytes_at(self, file: BinaryIO, at: int, length: int) -> memoryview | bytes:
        """Return bytes of the file, fewer where it ends."""
        if at + length <= len(self._view):
            return self._view[at : at + length]
        file.seek(at)
        return file.read(length)

    def fragments(self) -> list[tuple[int, int]] | None:
        """Return offset in the file and length of each compressed frame; None unless each is one fragment."""
        if self._table is None:
            return None
        return [(self._first + 8 + start, length) for start, length in zip(*self._table, strict=True)]

    def frame(
        self, file: BinaryIO, number: int, shape: tuple[int, ...], room: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Return the values of a frame: (row, col), or (row, col, rgb).

        Stray bits beside those stored are still there. `room` is an array of unsigned integers where they may be put.

        Raises
        ------
        UnreadableFileError
            If it cannot be decoded, or has another shape.
        """
        if self._plain is not None:
            return self._decoded(file, number, shape, self._plain, room)
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.pixels.processing import apply_color_lut
        from pydicom.pixels.utils import as_pixel_options

        from imagedata_xr.dicom.codecs import PLUGIN, register

        try:
            options = as_pixel_options(
                self._dataset, pixel_keyword=self._keyword, pixel_vr=self._vr, correct_unused_bits=False
            )
            if self._table is not None:
                options["extended_offsets"] = self._table
            self._check_size(shape, int(options.get("bits_allocated", 64)))
            register()
            source: Any = self._data
            if source is None:
                source = file
                file.seek(self._start)
            if options.get("bits_allocated") == 1 and not self.syntax.is_encapsulated:
                values = _bits(source, number, shape)
            else:
                decoder = get_decoder(self.syntax)
                values, _ = decoder.as_array(
                    source,
                    index=number,
                    decoding_plugin=PLUGIN if self.syntax.is_encapsulated else "",
                    **options,
                )
            if options["photometric_interpretation"] == "PALETTE COLOR" and len(shape) == 3:
                _drop_padding(self._dataset)
                values = apply_color_lut(values, self._dataset)[..., :3]
        except UnreadableFileError:
            raise
        except _FAILURES as err:
            msg = f"cannot decode frame {number} of {self.path} ({self.syntax.name}): {_reason(err)}"
            raise UnreadableFileError(msg) from err
        return self._of_shape(values, shape)

    def _decoded(
        self, file: BinaryIO, number: int, shape: tuple[int, ...], form: _Monochrome, room: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Return the values of a compressed frame of one fragment, shape (row, col)."""
        from imagedata_xr.dicom.codecs import decode_monochrome

        self._check_size(shape, form.bits_allocated)
        fragments = self.fragments() or []
        if number >= len(fragments):
            msg = f"{self.path} has {len(fragments)} frames, of which frame {number} is none"
            raise UnreadableFileError(msg)
        start, length = fragments[number]
        if start + length <= len(self._view):
            codestream = self._view[start : start + length]
        else:
            self._view = memoryview(b"")  # what is read goes to the same memory
            file.seek(start)
            codestream = self._before.read(file, length)
        try:
            values = decode_monochrome(
                codestream,
                self.syntax,
                rows=form.rows,
                columns=form.columns,
                bits_allocated=form.bits_allocated,
                signed=form.signed,
                room=room,
            )
        except _FAILURES as err:
            msg = f"cannot decode frame {number} of {self.path} ({self.syntax.name}): {_reason(err)}"
            raise UnreadableFileError(msg) from err
        return self._of_shape(values, shape)

    def _of_shape(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the values, or raise UnreadableFileError if they are not as many as wanted."""
        if values.shape != shape:
            msg = f"{self.path} decodes to {values.shape}; {shape} is wanted"
            raise UnreadableFileError(msg)
        return values

    def _check_size(self, shape: tuple[int, ...], bits_allocated: int) -> None:
        """Raise UnreadableFileError for frames that are larger than is allowed."""
        size = math.prod(shape) * max(bits_allocated // 8, 1)
        largest = OPTIONS["largest_frame"]
        if size > largest:
            msg = (
                f"{self.path} has frames of {shape}, {size} bytes each; at most {largest} are decoded, unless "
                "imagedata_xr.set_options(largest_frame=...) allows more"
            )
            raise UnreadableFileError(msg)


class _Monochrome(NamedTuple):
    """How compressed frames of one sample a pixel are stored."""

    rows: int
    columns: int
    bits_allocated: int
    signed: bool
    frames: int

    @classmethod
    def of(cls, head: Head) -> Self | None:
        """Return what a head says of them; None for other frames, and where it does not say it plainly."""
        from imagedata_xr.dicom.codecs import DECODER_DEPENDENCIES

        numbers = ("Rows", "Columns", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames")
        rows, columns, bits, signed, samples, frames = (
            None if (raw := head.elements.get(tag(name))) is None else decode(tag(name), raw) for name in numbers
        )
        photometric = head.elements.get(tag("PhotometricInterpretation"))
        is_grey = photometric is not None and photometric.value.strip() in (b"MONOCHROME1", b"MONOCHROME2")
        frames = 1 if frames is None else frames
        if head.syntax not in DECODER_DEPENDENCIES or not is_grey or samples != 1 or bits not in (8, 16):
            return None
        if not isinstance(rows, int) or not isinstance(columns, int) or signed not in (0, 1):
            return None
        if not isinstance(frames, int) or frames < 1:
            return None
        return cls(rows, columns, int(bits), bool(signed), frames)


def _reason(err: BaseException) -> str:
    """Return what went wrong, in one line."""
    lines = str(err).strip().splitlines() or [type(err).__name__]
    return lines[-1].strip().removeprefix("imagedata_xr: ")


def _drop_padding(dataset: Dataset) -> None:
    """Take the byte that makes its length even from each palette of 8 bits: pydicom takes the bits from the length."""
    for name in (f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")):
        entries, *_ = dataset.get(f"{name}Descriptor") or (0,)
        data = dataset.get(f"{name}Data")
        if data is not None and len(data) == entries + 1:
            dataset[f"{name}Data"].value = data[:-1]


def _bits(source: BinaryIO | bytes, number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a frame of one bit a pixel; frames follow each other bit by bit (PS3.5 8.1.1)."""
    count = int(np.prod(shape))
    first, last = number * count // 8, -(-(number + 1) * count // 8)
    if isinstance(source, bytes):
        data = source[first:last]
    else:
        source.seek(first, 1)
        data = source.read(last - first)
    if len(data) != last - first:
        msg = f"{len(data)} bytes of pixel data are there, {last - first} are wanted"
        raise ValueError(msg)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return bits[number * count % 8 :][:count].reshape(shape)


def check_deflated(path: str, file: BinaryIO) -> None:
    """Raise if a deflated file would become too large; the file stands at its beginning afterwards.

    Raises
    ------
    UnreadableFileError
        If it would, or cannot be inflated.
    """
    file.seek(0)
    try:
        syntax, end = meta_of(file.read(1 << 16))
    except (StepAside, struct.error):
        syntax, end = "", 0
    if syntax == DEFLATED:
        file.seek(end)
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflate.eof:
            piece = inflate.unconsumed_tail or file.read(_PIECE)
            if not piece:
                break
            size += len(inflate.decompress(piece, _PIECE))
            if size > OPTIONS["largest_header"]:
                msg = (
                    f"{path} becomes more than {OPTIONS['largest_header']} bytes when it is inflated; such files are "
                    "refused, unless imagedata_xr.set_options(largest_header=...) allows more"
                )
                raise UnreadableFileError(msg)
    file.seek(0)


def guessed_syntax(dataset: Dataset) -> str:
    """Return the transfer syntax of a file without meta header."""
    implicit, little = dataset.original_encoding
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
