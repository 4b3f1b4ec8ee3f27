"""The data set of a file in another transfer syntax, with the same values."""

from __future__ import annotations

import struct
from typing import Final

from imagedata_xr.dicom.codecs import register, why_not
from imagedata_xr.quiet import filtered_warnings, without_validation
from imagedata_xr.streams import dcmread
from imagedata_xr.verbatim import keep_values

__all__ = ["FALLBACKS", "EncodingError", "encoded"]

FALLBACKS: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5")
"""Transfer syntaxes that an instance can be sent in if the peer does not take its own: explicit and implicit VR little
endian, and RLE."""
_RLE: Final = "1.2.840.10008.1.2.5"
_IMPLICIT: Final = "1.2.840.10008.1.2"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"


class EncodingError(ValueError):
    """An instance cannot be encoded in another transfer syntax without a change of its values."""


def encoded(path: str, syntax: str) -> bytes:
    """Return the data set of a file in one of the transfer syntaxes `FALLBACKS`, stored values unchanged.

    Raises
    ------
    EncodingError
        If that cannot be done; it says why.
    """
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset
    from pydicom.uid import UID

    register()
    # Scanners write elements that are not valid; they are handed on as they are.
    with filtered_warnings(), without_validation():
        try:
            dataset = dcmread(path)
            own = UID(dataset.file_meta.TransferSyntaxUID)
            if own == _BIG_ENDIAN:
                msg = "big endian values are not turned round"
                raise EncodingError(msg)
            if own.is_encapsulated:
                if reason := why_not(own):
                    raise EncodingError(reason)
                dataset.decompress(as_rgb=False, generate_instance_uid=False)
            if syntax == _RLE:
                if "PixelData" not in dataset:
                    msg = "it has no pixels to compress"
                    raise EncodingError(msg)
                dataset.compress(_RLE, generate_instance_uid=False)
            keep_values(dataset)
            out = DicomBytesIO()
            out.is_little_endian, out.is_implicit_VR = True, syntax == _IMPLICIT
            write_dataset(out, dataset)
        except EncodingError:
            raise
        except (AttributeError, ValueError, RuntimeError, NotImplementedError, TypeError, LookupError, EOFError) as err:
            raise EncodingError(f"its pixels cannot be decoded ({type(err).__name__})") from err
        except (struct.error, OverflowError, MemoryError) as err:
            raise EncodingError(f"it cannot be encoded ({type(err).__name__})") from err
    return bytes(out.getvalue())
