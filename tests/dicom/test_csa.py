"""What Siemens' CSA header says is read as nibabel reads it; a damaged one is an error, never a crash."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from imagedata_xr.dicom.csa import CREATOR, csa, parse_csa
from imagedata_xr.errors import UnreadableFileError

if TYPE_CHECKING:
    from pathlib import Path


def csa_bytes(tags: dict[str, list[str]], *, version: int = 2, spare: int = 1) -> bytes:
    """Return a CSA header; each tag has a few empty items more than values, as scanners write them."""
    out = b"SV10\4\3\2\1" if version == 2 else b""
    out += pack("<II", len(tags), 77)
    base = len(next(iter(tags.values()))) + spare
    for name, values in tags.items():
        items = [v.encode() + b"\0" for v in values] + [b""] * spare
        out += pack("<64si4siii", name.encode(), len(values), b"FD", 4, len(items), 77)
        for item in items:
            length = len(item) if version == 2 else len(item) + base
            out += pack("<4i", length, len(item), 77, length) + item + b"\0" * (-len(item) % 4)
    return out


HEADER = {"NumberOfImagesInMosaic": ["35"], "SliceNormalVector": ["0.0", "-0.1", "0.99"], "B_value": []}


@pytest.mark.parametrize("version", [1, 2])
def test_versions(version: int) -> None:
    assert parse_csa(csa_bytes(HEADER, version=version)) == HEADER


def test_header_of_a_file() -> None:
    ds = Dataset()
    assert csa(ds) == {}
    ds.private_block(0x0029, "ANOTHER CREATOR", create=True).add_new(0x10, "OB", b"not a CSA header")
    assert csa(ds) == {}
    ds.private_block(0x0029, CREATOR, create=True).add_new(0x10, "OB", csa_bytes(HEADER))
    assert csa(ds)["SliceNormalVector"] == ["0.0", "-0.1", "0.99"]


@pytest.mark.filterwarnings("ignore:The DICOM readers are highly experimental")
def test_real_headers_read_as_nibabel_does(shared_data: Path) -> None:
    from nibabel.nicom import csareader

    checked = 0
    for case in ("si_mosaic_fh", "si_mosaic_hf", "si_12bit", "si_dwi_rsi", "si_transfer_syntaxes"):
        file = sorted((shared_data / case / "dicom").iterdir())[0]
        block = pydicom.dcmread(file, stop_before_pixels=True).private_block(0x0029, CREATOR)
        mine = parse_csa(block[0x10].value)
        for name, tag in csareader.read(block[0x10].value)["tags"].items():
            theirs = [str(item) for item in tag["items"] if item not in ("", b"")]
            assert len(mine[name]) == len(theirs)
            for a, b in zip(mine[name], theirs, strict=True):
                assert a.split() == b.split() or float(a) == float(b)
            checked += len(theirs)
    assert checked > 200


@pytest.mark.parametrize("keep", range(1, len(csa_bytes(HEADER)) - 4, 7))
def test_cut_short(keep: int) -> None:
    with pytest.raises(UnreadableFileError, match="CSA header is damaged"):
        parse_csa(csa_bytes(HEADER)[:keep])


@given(st.data())
def test_damaged_bytes_raise_or_read(data: st.DataObject) -> None:
    broken = bytearray(csa_bytes(HEADER, version=data.draw(st.sampled_from([1, 2]))))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_csa(bytes(broken))
    except UnreadableFileError:
        return
    assert all(isinstance(v, str) for values in found.values() for v in values)
