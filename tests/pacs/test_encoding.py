"""What is sent in another transfer syntax than it is stored in has the same elements and values."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
from pydicom.uid import ImplicitVRLittleEndian

from imagedata_xr.pacs.encoding import FALLBACKS, encoded
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


def test_private_values_that_are_not_of_their_vr_are_sent_as_they_are(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, slices=1, transfer_syntax=ImplicitVRLittleEndian)
    ds = pydicom.dcmread(file)
    ds.add_new(0x00190010, "LO", "GEMS_ACQU_01")
    ds.add_new(0x0019101E, "UN", b"abcdef")  # a DS for pydicom's dictionary
    ds.add_new(0x001910B8, "UN", b"ab")  # and an FL or the like, of another length
    ds.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    ds.add_new(0x00291010, "UN", b"SV10\4\3\2\1")
    ds.save_as(file)
    for syntax in FALLBACKS:
        found = pydicom.dcmread(BytesIO(encoded(str(file), syntax)), force=True)
        found = pydicom.filereader.read_dataset(
            BytesIO(encoded(str(file), syntax)), syntax == ImplicitVRLittleEndian, True
        )
        for number, value in ((0x0019101E, b"abcdef"), (0x001910B8, b"ab"), (0x00291010, b"SV10\4\3\2\1")):
            assert found.get_item(number).value == value
