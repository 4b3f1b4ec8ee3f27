"""b-values and gradient directions of every vendor, from elements as their scanners write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from struct import pack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from imagedata_xr.dicom.csa import CREATOR
from imagedata_xr.dicom.scan import scan
from imagedata_xr.dicom.vendors import diffusion, image_kinds, private_values
from imagedata_xr.errors import UnreadableFileError
from tests.generate import AXIAL, CORONAL, OBLIQUE, SAGITTAL, axes, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset
    from pydicom.uid import UID

    from imagedata_xr.dicom.table import FrameTable

HALF = float(np.sqrt(0.5))
GRADIENT = (0.48, 0.6, 0.64)
GRADIENT_ALONG_AXIAL = (-0.48, -0.6, 0.64)


def table(path: Path, fill: Callable[[Dataset, int], None], volumes: int = 2, **options: Any) -> FrameTable:
    """Return the frames of a series of one slice whose headers `fill` has filled, by volume."""
    write_series(path, times=volumes, slices=1, mutate=lambda ds, t, _z: fill(ds, t), **options)
    (found,) = scan(path).values()
    return found.take(np.argsort([int(v) for v in found.values("InstanceNumber")]))  # type: ignore[arg-type] # ints


def siemens(ds: Dataset, b: int, kind: str, vector: Sequence[float] | None) -> None:
    ds.Manufacturer = "SIEMENS"
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", b)
    block.add_new(0x0D, "CS", kind)
    if vector is not None:
        block.add_new(0x0E, "FD", list(vector))


def ge(ds: Dataset, b: Sequence[int], vector: Sequence[float], phase: str | None = "COL") -> None:
    ds.Manufacturer = "GE MEDICAL SYSTEMS"
    if phase is not None:
        ds.InPlanePhaseEncodingDirection = phase
    ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", list(b))
    block = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for number, value in zip((0xBB, 0xBC, 0xBD), vector, strict=True):
        block.add_new(number, "DS", f"{value:.6f}")


def test_standard_elements(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.DiffusionBValue = [0.0, 1000.0, 1000.0][t]
        ds.DiffusionDirectionality = ["NONE", "DIRECTIONAL", "ISOTROPIC"][t]
        ds.DiffusionGradientOrientation = [0.0, 3.0e-1, 9.539392e-1]

    found = diffusion(table(tmp_path, fill, 3))
    assert found.b == [0, 1000, 1000]
    assert found.directions[0] is None
    assert found.directions[1] == pytest.approx((0, 0.3, 0.9539392), abs=1e-6)
    assert found.directions[2] is None, "isotropic images have no direction, whatever the header says"
    assert not found.doubts


def test_siemens(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        siemens(ds, [0, 750, 750][t], ["NONE", "DIRECTIONAL", "ISOTROPIC"][t], None if t == 0 else (-HALF, 0, HALF))

    found = diffusion(table(tmp_path, fill, 3, orientation=OBLIQUE))
    assert found.b == [0, 750, 750]
    assert found.directions == [None, pytest.approx((-HALF, 0, HALF)), None], "in the patient's frame already"


def test_block_of_another_number(tmp_path: Path) -> None:
    """Who comes first gets block 10; the creator says which block is whose (PS3.5 7.8.1)."""

    def fill(ds: Dataset, t: int) -> None:
        other = ds.private_block(0x0019, "SOMEBODY ELSE", create=True)
        other.add_new(0x0C, "IS", 77)
        other.add_new(0x0E, "FD", [1.0, 0, 0])
        siemens(ds, [0, 750][t], "DIRECTIONAL", (0, 0, 1))

    found = diffusion(table(tmp_path, fill))
    assert found.b == [0, 750]
    assert found.directions == [None, (0, 0, 1)]


def test_block_of_another_creator_says_nothing(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "SIEMENS"
        ds.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "IS", 77 * t)

    assert diffusion(table(tmp_path, fill)).b == [None, None]


def test_lost_creators(tmp_path: Path) -> None:
    """De-identifiers take creators away and leave the elements: then Manufacturer says whose they are."""

    def fill(ds: Dataset, t: int) -> None:
        siemens(ds, [0, 750][t], "DIRECTIONAL", (0, 0, 1))
        del ds[0x0019, 0x0010]

    assert diffusion(table(tmp_path / "siemens", fill)).b == [0, 750]

    def unknown(ds: Dataset, t: int) -> None:
        fill(ds, t)
        ds.Manufacturer = "Anonymous"

    assert diffusion(table(tmp_path / "unknown", unknown)).b == [None, None]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_private_elements_in_files_of_other_kinds(tmp_path: Path, syntax: UID) -> None:
    """Implicit files name no value representation; big endian and deflated ones are read by pydicom."""

    def fill(ds: Dataset, t: int) -> None:
        siemens(ds, [0, 750][t], "DIRECTIONAL", (0, 0, 1))

    found = diffusion(table(tmp_path, fill, transfer_syntax=syntax))
    assert found.b == [0, 750]
    assert found.directions == [None, (0, 0, 1)]


def csa_header(**tags: Sequence[str]) -> bytes:
    data = b"SV10" + bytes((4, 3, 2, 1)) + pack("<II", len(tags), 77)
    for name, values in tags.items():
        data += pack("<64si4siii", name.encode(), len(values), b"FD", 4, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            data += pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return data


def test_siemens_csa(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "SIEMENS"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
        vector = [f"{v:.8f}" for v in GRADIENT]
        header = csa_header(B_value=["0"], DiffusionDirectionality=["NONE"])
        if t:
            header = csa_header(
                B_value=["1000"], DiffusionDirectionality=["DIRECTIONAL"], DiffusionGradientDirection=vector
            )
        ds.private_block(0x0029, CREATOR, create=True).add_new(0x10, "OB", header)

    found = diffusion(table(tmp_path, fill))
    assert found.b == [0, 1000]
    assert found.directions == [None, pytest.approx(GRADIENT)]


def test_damaged_csa(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "SIEMENS"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
        ds.private_block(0x0029, CREATOR, create=True).add_new(0x10, "OB", csa_header(B_value=[["x", "y"][t]]))

    with pytest.raises(UnreadableFileError, match="is no number"):
        diffusion(table(tmp_path, fill))


Rule = Callable[[float, float, float], tuple[float, float, float]]
# What dcm2niix 1.0.20260724 makes of GE's (x, y, z) = (frequency, phase, slice), along (right, down, normal).
GE_FRAMES: dict[str, tuple[Sequence[float], str, Rule]] = {
    "axial COL": (AXIAL, "COL", lambda x, y, z: (-x, -y, z)),
    "axial ROW": (AXIAL, "ROW", lambda x, y, z: (-y, x, z)),
    "sagittal COL": (SAGITTAL, "COL", lambda x, y, z: (x, y, -z)),
    "sagittal ROW": (SAGITTAL, "ROW", lambda x, y, z: (y, -x, -z)),
    "coronal COL": (CORONAL, "COL", lambda x, y, z: (-x, y, z)),
    "coronal ROW": (CORONAL, "ROW", lambda x, y, z: (y, x, z)),
    "oblique COL": (OBLIQUE, "COL", lambda x, y, z: (-x, -y, z)),
}


@pytest.mark.parametrize("case", GE_FRAMES)
def test_ge_direction(tmp_path: Path, case: str) -> None:
    orientation, phase, rule = GE_FRAMES[case]
    found = diffusion(
        table(tmp_path, lambda ds, t: ge(ds, [1000 * t, 8, 0, 0], GRADIENT, phase), orientation=orientation)
    )
    n, down, right = axes(orientation)
    x, y, z = rule(*GRADIENT)
    assert found.b == [0, 1000]
    assert found.directions == [None, pytest.approx(x * right + y * down + z * n, abs=1e-6)]
    assert not found.doubts


def test_ge_without_phase_direction_is_doubted(tmp_path: Path) -> None:
    found = diffusion(table(tmp_path, lambda ds, t: ge(ds, [1000 * t, 8, 0, 0], GRADIENT, None)))
    assert found.directions[1] == pytest.approx(GRADIENT_ALONG_AXIAL)
    assert len(found.doubts) == 1
    assert "InPlanePhaseEncodingDirection is absent" in found.doubts[0]


def test_ge_offset(tmp_path: Path) -> None:
    found = diffusion(table(tmp_path, lambda ds, t: ge(ds, [1_000_000_000 + 600 * t, 8, 0, 0], GRADIENT)))
    assert found.b == [0, 600]


def test_ge_shells_told_by_the_length_of_the_gradient(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ge(ds, [2000, 8, 0, 0], [v * [0, HALF, 1][t] for v in GRADIENT])
        if t == 0:
            ds[0x0043, 0x1039].value = [0, 8, 0, 0]

    found = diffusion(table(tmp_path, fill, 3))
    assert found.b == [0, 1000, 2000]
    assert found.directions[1] == pytest.approx(GRADIENT_ALONG_AXIAL)


def test_ge_standard_value_wins(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ge(ds, [1000, 8, 0, 0], GRADIENT)
        ds.DiffusionBValue = 3000.0 * t

    assert diffusion(table(tmp_path, fill)).b == [0, 3000]


def test_philips(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "Philips Medical Systems"
        ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", [0.001, 0.002, 800][t])
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        for number, value in zip((0xB0, 0xB1, 0xB2), GRADIENT, strict=True):
            block.add_new(number, "FL", value if t == 2 else 0.0)

    found = diffusion(table(tmp_path, fill, 3))
    assert found.b == pytest.approx([0.001, 0.002, 800]), "small values that tell b0 volumes apart are not rounded"
    assert found.directions == [None, None, pytest.approx(GRADIENT)]


def test_united_imaging(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "UIH"
        block = ds.private_block(0x0065, "Image Private Header", create=True)
        block.add_new(0x09, "FD", [1.25, 929.75][t])
        block.add_new(0x37, "FD", list(np.multiply(GRADIENT, t)))

    found = diffusion(table(tmp_path, fill, orientation=OBLIQUE))
    n, down, right = axes(OBLIQUE)
    assert found.b == [1.25, 929.75]
    assert found.directions == [None, pytest.approx(0.48 * right + 0.6 * down + 0.64 * n)]


def test_toshiba_tells_no_b_of_volumes_without_gradient(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "TOSHIBA_MEC"
        if t:
            ds.DiffusionBValue = 1000.0
            ds.DiffusionGradientOrientation = [0.0, 0.0, 1.0]

    assert diffusion(table(tmp_path / "toshiba", fill)).b == [0, 1000]

    def other(ds: Dataset, t: int) -> None:
        fill(ds, t)
        ds.Manufacturer = "Another"

    assert diffusion(table(tmp_path / "other", other)).b == [None, 1000], "what is not known is not made up"


def test_canon_comments(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.Manufacturer = "CANON_MEC"
        ds.ImageComments = ["b=0(0.000,0.000,0.000)", "b=1500(0.445,0.000,0.895)"][t]

    found = diffusion(table(tmp_path, fill))
    assert found.b == [0, 1500]
    assert found.directions == [None, None]
    assert "no documented frame" in found.doubts[0]


def test_odd_vectors_are_no_directions(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        siemens(ds, 1000, "DIRECTIONAL", [(-1.0001, -1.0001, -1.0001), (0, 0, 0), (np.nan, 0, 1), (0, 1)][t])

    assert diffusion(table(tmp_path, fill, 4)).directions == [None] * 4


@pytest.mark.parametrize(
    ("b", "kind", "length", "said"),
    [
        (1000, "DIRECTIONAL", 1.2, "longer than 1"),
        (1000, "", 1.2, "longer than 1"),
        (1000, "DIRECTIONAL", 0.5, "shorter than 1"),
        (1000, "DIRECTIONAL", 1.0001, ""),
        (1000, "", 0.5, ""),
        (1000, "ISOTROPIC", 1.2, ""),
        (0, "NONE", 1.2, ""),
    ],
)
def test_gradients_that_are_no_unit_vectors_are_doubted(
    tmp_path: Path, b: int, kind: str, length: float, said: str
) -> None:
    def fill(ds: Dataset, t: int) -> None:
        siemens(ds, b, kind, [length * x for x in GRADIENT])

    doubts = diffusion(table(tmp_path, fill)).doubts
    assert len(doubts) == bool(said)
    assert all(said in doubt and "2 frames" in doubt for doubt in doubts)


@pytest.mark.parametrize(("kind", "said"), [("ORIGINAL", True), ("DERIVED", False)])
def test_zero_gradients_of_general_electric_are_doubted(tmp_path: Path, kind: str, *, said: bool) -> None:
    """With b = 0 they are as they should be, and where images were derived; else nobody knows what they are."""

    def fill(ds: Dataset, t: int) -> None:
        ge(ds, [[0, 1000, 1000][t], 8, 0, 0], [(0, 0, 0), GRADIENT, (0, 0, 0)][t])
        ds.ImageType = [kind if t == 2 else "ORIGINAL", "PRIMARY", "OTHER"]

    found = diffusion(table(tmp_path, fill, 3))
    assert found.b == [0, 1000, 1000]
    assert [direction is None for direction in found.directions] == [True, False, True]
    assert len(found.doubts) == said
    assert all("gradients of 1 frames with a b-value are zero" in doubt for doubt in found.doubts)


def test_no_diffusion(tmp_path: Path) -> None:
    found = diffusion(table(tmp_path, lambda _ds, _t: None))
    assert (found.b, found.directions, found.doubts) == ([None, None], [None, None], [])


def test_value_of_another_kind(tmp_path: Path) -> None:
    def fill(ds: Dataset, t: int) -> None:
        ds.private_block(0x0019, "USER", create=True).add_new(0x01, "FD", [1.0, 2.0][t])
        ds[0x0019, 0x1001].VR = "FD"

    frames = table(tmp_path, fill)
    assert private_values(frames, 0x0019, "USER", 0x01, "IS", "X") == [1, 2], "the file's own VR counts"
    assert private_values(frames, 0x0019, "USER", 0x02, "IS", "X") == [None, None]
    assert private_values(frames, 0x0021, "USER", 0x01, "IS", "X") == [None, None]


def test_kinds_of_images(tmp_path: Path) -> None:
    def standard(ds: Dataset, t: int) -> None:
        ds.ComplexImageComponent = ["MAGNITUDE", "PHASE", "REAL", "IMAGINARY"][t]

    def general_electric(ds: Dataset, t: int) -> None:
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", t)

    def philips(ds: Dataset, t: int) -> None:
        ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x11, "CS", "MPRI"[t])

    for fill in (standard, general_electric, philips):
        assert image_kinds(table(tmp_path / fill.__name__, fill, 4)) == ["M", "P", "R", "I"]
    assert image_kinds(table(tmp_path / "plain", lambda _ds, _t: None)) == ["", ""]


@pytest.mark.parametrize("case", ["ge_dwi", "si_dwi_rsi", "ca_enh_dwi", "ph_enh_dwi", "uih_dwi_grid"])
def test_real_series(shared_data: Path, case: str) -> None:
    """The same b-values and directions as those of dcm2niix."""
    wanted = json.loads((shared_data / case / "expected.json").read_text())["volumes"]
    (frames,) = scan(shared_data / case / "dicom").values()
    found = diffusion(frames)
    have = set(zip(found.b, found.directions, strict=True))
    assert len({(b, None if d is None else tuple(np.round(d, 3))) for b, d in have}) == len(wanted)
    for volume in wanted:
        b, vector = volume["tags"]["b_value_header"], volume["tags"]["gradient_direction_lps_from_dcm2niix"]
        close = [d for value, d in have if value == pytest.approx(b, abs=1e-3)]
        if not np.any(vector):
            assert None in close
        else:
            assert max(np.dot(d, vector) for d in close if d) / np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)
