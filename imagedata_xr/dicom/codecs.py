"""Teaches pydicom to decode JPEG, JPEG lossless, JPEG-LS, JPEG 2000 and RLE with imagecodecs.

imagecodecs is permissively licensed and frees the interpreter while it decodes, so that threads gain; the plug-ins
that pydicom brings do one or the other. Here, too, the size that a codestream claims is compared with the size that the
header gives, before a decoder allocates memory for it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.pixels.decoders.base import DecodeRunner

__all__ = ["PLUGIN", "codestream_size", "decode_monochrome", "register", "why_not"]

Codestream = bytes | memoryview
PLUGIN: Final = "imagedata_xr"
_JPEG: Final = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS: Final = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000: Final = (uid.JPEG2000Lossless, uid.JPEG2000)
_HTJ2K: Final = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
DECODER_DEPENDENCIES: Final = dict.fromkeys(
    (*_JPEG, *_JPEG_LS, *_JPEG_2000, *_HTJ2K, uid.RLELossless), ("imagecodecs",)
)
"""Asked for by pydicom."""

_JPEG_XL: Final = ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112")
_OTHERS: Final = (
    (("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101", "1.2.840.10008.1.2.4.102"), "PyAV (av)"),
    (("1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.104", "1.2.840.10008.1.2.4.105"), "PyAV (av)"),
    (("1.2.840.10008.1.2.4.106", "1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108"), "PyAV (av)"),
    (_JPEG_XL, "imagecodecs (jpegxl_decode)"),
    (("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95"), "a JPIP client; the pixels are not in the file"),
    (("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"), "openjpeg with JPEG 2000 part 2"),
)
_SIZ: Final = b"\xff\x4f\xff\x51"
_END: Final = b"\xff\xd9"
_PADDED: Final = 16
"""Bytes from the end in which the mark of the end must be: some writers pad with more than the one byte."""
_J2K_SIZE: Final = Struct(">IIII").unpack_from
_J2K_COMPONENTS: Final = Struct(">H").unpack_from
_SEGMENT: Final = Struct(">BBH").unpack_from
_FRAME_HEADER: Final = Struct(">BHHB").unpack_from
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_RLE_HEADER: Final = Struct("<16I").unpack_from
_RLE_GROWTH: Final = 64
"""PackBits makes at most 128 bytes of 2 (PS3.5 G.3.1)."""


def is_available(syntax: str) -> bool:
    """Return whether frames of a transfer syntax can be decoded; asked by pydicom."""
    return syntax in DECODER_DEPENDENCIES


def why_not(syntax: str) -> str:
    """Return why frames of a transfer syntax cannot be decoded, naming it and what decodes it; "" if they can.

    Examples
    --------
    >>> why_not("1.2.840.10008.1.2.4.70"), why_not("1.2.840.10008.1.2.1")
    ('', '')
    >>> why_not("1.2.840.10008.1.2.4.100")
    'stored as MPEG2 Main Profile / Main Level (1.2.840.10008.1.2.4.100), which PyAV (av) decodes, and not this package'
    """
    if syntax in DECODER_DEPENDENCIES:
        return ""
    try:
        get_decoder(uid.UID(syntax))
    except NotImplementedError:
        name = "JPEG XL" if syntax in _JPEG_XL else uid.UID(syntax).name
        found = f"stored as {name} ({syntax})"
        for syntaxes, package in _OTHERS:
            if syntax in syntaxes:
                return f"{found}, which {package} decodes, and not this package"
        return f"{found}, which is no transfer syntax that is known here"
    return ""


def codestream_size(data: Codestream) -> tuple[int, int, int]:
    """Return rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 codestream claims.

    Raises
    ------
    ValueError
        If it does not say.
    """
    try:
        if data[:4] == _SIZ:
            right, down, left, up = _J2K_SIZE(data, 8)
            return down - up, right - left, int(_J2K_COMPONENTS(data, 40)[0])
        pos = 2
        while data[:2] == b"\xff\xd8":
            mark, kind, length = _SEGMENT(data, pos)
            if mark != 0xFF:
                break
            if kind in _START_OF_FRAME:
                _, rows, columns, components = _FRAME_HEADER(data, pos + 4)
                return rows, columns, components
            # Fill bytes may stand before a marker.
            pos += 1 if kind == 0xFF else 2 + length
    except error:
        pass
    msg = "its codestream has no size"
    raise ValueError(msg)


def decode_frame(data: bytes, runner: DecodeRunner) -> bytes:
    """Return the decoded bytes of one frame; called by pydicom.

    Raises
    ------
    ValueError
        If the codestream is of another size than the header says, or ends early.
    """
    return _decode_checked(data, runner).tobytes()


def _decode_checked(data: Codestream, runner: DecodeRunner, room: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return the bytes of a frame as an array, if possible in `room`; see `decode_frame`."""
    if runner.transfer_syntax == uid.RLELossless:
        return np.frombuffer(_decode_rle(data, runner), np.uint8)
    syntax = runner.transfer_syntax
    if syntax in (*_JPEG_2000, *_HTJ2K) and data[:4] != _SIZ:
        # A JP2 file, too, has been seen in pixel data; only the codestream in it counts.
        data = data[max(bytes(data).find(_SIZ), 0) :]
    wanted = runner.rows, runner.columns, runner.samples_per_pixel
    found = codestream_size(data)
    if found != wanted:
        msg = f"its codestream is of {_size(found)}, the header says {_size(wanted)}"
        raise ValueError(msg)
    if _END not in bytes(data[-_PADDED:]):
        # Decoders fill up what is missing.
        msg = f"its codestream of {len(data)} bytes ends early"
        raise ValueError(msg)
    frame: NDArray[Any] = _decode(data, runner, room)
    runner.set_option("bits_allocated", 8 * frame.dtype.itemsize)
    if frame.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(frame, frame.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


@dataclass
class _Runner:
    """What `decode_frame` asks of pydicom, of frames with one sample a pixel."""

    transfer_syntax: str
    rows: int
    columns: int
    bits_allocated: int
    samples_per_pixel: int = 1

    def set_option(self, name: str, value: Any) -> None:
        """Take what the codestream says otherwise."""
        if name == "bits_allocated":
            self.bits_allocated = value


def decode_monochrome(
    data: Codestream,
    syntax: str,
    *,
    rows: int,
    columns: int,
    bits_allocated: int,
    signed: bool,
    room: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the values of a compressed frame of one sample a pixel, shape (row, col), little endian.

    They are in `room`, an array of unsigned integers of this shape, where the decoder can put them there.

    Raises
    ------
    ValueError, and what decoders raise
        If it is of another size than the header says, or ends early.
    """
    runner: Any = _Runner(syntax, rows, columns, bits_allocated)
    frame = _decode_checked(data, runner, room)
    wanted = rows * columns * runner.bits_allocated // 8
    if not wanted <= len(frame) <= wanted + 1:
        msg = f"it decodes to {len(frame)} bytes, {wanted} are wanted"
        raise ValueError(msg)
    kind = f"<{'i' if signed else 'u'}{runner.bits_allocated // 8}"
    return np.frombuffer(frame, kind, rows * columns).reshape(rows, columns)


def _size(size: tuple[int, int, int]) -> str:
    return f"{size[0]}×{size[1]} with {size[2]} sample{'s' * (size[2] != 1)}"


def _decode(codestream: Codestream, runner: DecodeRunner, room: NDArray[Any] | None) -> Any:
    """Return the values of a codestream, in the colour space in which they are stored where pydicom knows it.

    Those of one sample a pixel are in `room` if they are of its type.
    """
    import imagecodecs

    data: Any = codestream  # the types of imagecodecs know no memoryview
    syntax = runner.transfer_syntax
    decode = None
    if syntax in _JPEG_LS:
        decode = imagecodecs.jpegls_decode
    elif syntax in _JPEG_2000:
        decode = imagecodecs.jpeg2k_decode
    elif syntax in _HTJ2K:
        decode = imagecodecs.htj2k_decode
    elif runner.samples_per_pixel == 1:
        decode = imagecodecs.jpeg_decode
    if decode is not None:
        if room is not None:
            with suppress(ValueError):  # of another type than the array
                return decode(data, out=room)
        return decode(data)
    transform = _adobe_transform(data)
    if transform is not None:
        # What the encoder wrote of its own work is better than what was copied from another header.
        runner.set_option("photometric_interpretation", "YBR_FULL" if transform == 1 else "RGB")
    return imagecodecs.jpeg_decode(data, colorspace="RGB", outcolorspace="RGB")


def _adobe_transform(data: Codestream) -> int | None:
    """Return the colour transform that Adobe's marker (APP14) names: 0 none, 1 to YCbCr; None where it is absent."""
    at = bytes(data[:4096]).find(b"\xff\xee\0\x0eAdobe")
    return data[at + 15] if 0 <= at < len(data) - 15 else None


def _decode_rle(data: Codestream, runner: DecodeRunner) -> bytes:
    """Return the decoded bytes of a frame compressed by run lengths, sample after sample (PS3.5 annex G)."""
    import imagecodecs

    itemsize = runner.bits_allocated // 8
    whole = runner.rows * runner.columns * runner.samples_per_pixel * itemsize
    if whole > _RLE_GROWTH * len(data):
        msg = f"{len(data)} bytes of run lengths cannot become the {whole} bytes that the header says"
        raise ValueError(msg)
    # imagecodecs trusts these numbers, and ends the process where they lead out of the data.
    if len(data) < 64:
        msg = f"its run lengths have {len(data)} bytes, where their header alone has 64"
        raise ValueError(msg)
    count, *starts = _RLE_HEADER(data)
    starts = starts[: max(count, 1)]
    within = starts[0] >= 64 and starts[-1] <= len(data) and starts == sorted(starts)
    if count != runner.samples_per_pixel * itemsize or not within:
        msg = f"its {count} segments of run lengths begin at {starts[:4]}; {len(data)} bytes are there"
        raise ValueError(msg)
    frame = bytes(imagecodecs.dicomrle_decode(bytes(data), dtype=f"<u{itemsize}"))
    if len(frame) < whole:
        msg = f"its run lengths become {len(frame)} bytes, the header says {whole}"
        raise ValueError(msg)
    runner.set_option("planar_configuration", 1)
    return frame[:whole]


@cache
def register() -> None:
    """Add the decoder to those of pydicom; once a process."""
    for syntax in DECODER_DEPENDENCIES:
        get_decoder(syntax).add_plugin(PLUGIN, ("imagedata_xr.dicom.codecs", "decode_frame"))
