"""A codec of Zarr for frames as DICOM stores them: compressed, or with bits beside those stored.

It is found by `numcodecs` under its name, by an entry point, where the package is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numcodecs.abc import Codec

from imagedata_xr.dicom.stored import PixelFormat, only_stored_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DicomFrame"]


class DicomFrame(Codec):  # type: ignore[misc] # without types
    """Decodes one frame of one sample a pixel.

    Parameters
    ----------
    syntax : str
        Transfer syntax UID.
    rows, columns, bits_allocated, bits_stored, high_bit : int
        As the elements of these names say.
    signed : bool
        PixelRepresentation.
    """

    codec_id: ClassVar[str] = "imagedata_xr_frame"

    def __init__(
        self, syntax: str, rows: int, columns: int, bits_allocated: int, bits_stored: int, high_bit: int, signed: bool
    ) -> None:
        self.syntax, self.rows, self.columns = syntax, rows, columns
        self.bits_allocated, self.bits_stored = bits_allocated, bits_stored
        self.high_bit, self.signed = high_bit, signed

    def encode(self, buf: Any) -> Any:
        """Raise: frames are read where they lie, and not written."""
        msg = "frames of DICOM files are read where they lie; write with da.dicom.write"
        raise NotImplementedError(msg)

    def decode(self, buf: Any, out: Any = None) -> NDArray[Any]:
        """Return the stored values of a frame.

        Raises
        ------
        ValueError
            If the bytes are no frame of this size.
        """
        form = PixelFormat(
            self.rows,
            self.columns,
            1,
            self.bits_allocated,
            self.bits_stored,
            self.high_bit,
            self.signed,
            "",
            False,
            False,
        )
        from imagedata_xr.dicom.codecs import DECODER_DEPENDENCIES, decode_monochrome

        data = bytes(buf)
        if self.syntax in DECODER_DEPENDENCIES:
            values = decode_monochrome(
                data,
                self.syntax,
                rows=self.rows,
                columns=self.columns,
                bits_allocated=self.bits_allocated,
                signed=self.signed,
            )
        else:
            wanted = self.rows * self.columns * form.dtype.itemsize
            if not wanted <= len(data) <= wanted + 1:
                msg = f"a frame has {len(data)} bytes, {wanted} are wanted"
                raise ValueError(msg)
            values = np.frombuffer(data, form.dtype.newbyteorder("<"), self.rows * self.columns)
        frame = only_stored_bits(values.astype(form.dtype).reshape(form.shape), form)
        if out is None:
            return frame
        np.copyto(np.asarray(out).view(frame.dtype).reshape(frame.shape), frame)
        return np.asarray(out)

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same codec again."""
        names = ("syntax", "rows", "columns", "bits_allocated", "bits_stored", "high_bit", "signed")
        return {"id": self.codec_id, **{name: getattr(self, name) for name in names}}
