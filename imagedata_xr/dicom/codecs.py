"""Teaches pydicom to decode JPEG, JPEG lossless, JPEG-LS and JPEG 2000 with imagecodecs.

imagecodecs is permissively licensed and frees the interpreter while it decodes, so that threads gain; the plug-ins
that pydicom brings do one or the other.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

__all__ = ["register"]

DECODER_DEPENDENCIES = dict.fromkeys(
    (
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
    ),
    ("imagecodecs",),
)


def is_available(syntax: str) -> bool:
    """Whether frames of a transfer syntax can be decoded."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(data: bytes, runner: DecodeRunner) -> bytes:
    """Return the decoded bytes of one frame; called by pydicom."""
    import imagecodecs

    syntax = runner.transfer_syntax
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        frame: Any = imagecodecs.jpegls_decode(data)
    elif syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1):
        frame = imagecodecs.jpeg_decode(data)
    elif syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        frame = imagecodecs.jpeg2k_decode(data)
    else:
        frame = imagecodecs.htj2k_decode(data)
    runner.set_option("bits_allocated", 8 * frame.dtype.itemsize)
    if frame.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return bytes(frame.astype(frame.dtype.newbyteorder("<"), copy=False).tobytes())


@cache
def register() -> None:
    """Add the decoder to those of pydicom, before its own plug-ins; once a process."""
    for syntax in DECODER_DEPENDENCIES:
        decoder = get_decoder(syntax)
        decoder.add_plugin("imagedata_xr", ("imagedata_xr.dicom.codecs", "decode_frame"))
