"""What vendors say in elements of their own: b-value and gradient direction of each frame, and its kind of image.

Standard elements (PS3.3 C.8.13.5.9) come first, frame by frame. Private ones count only in a block that their creator
has reserved (PS3.5 7.8.1), whatever its number; a series that lost all creators of a group to a de-identifier is read
as if the vendor named in Manufacturer had reserved the first block, as vendors do.

=========  =====================================================  ================================================
vendor     b-value                                                gradient direction
=========  =====================================================  ================================================
Siemens    (0019,xx0C), CSA header B_value                        (0019,xx0E), CSA header; patient
GE         (0043,xx39), first value, perhaps with 1e9 added       (0019,xxBB..BD); frequency, phase, slice
Philips    (2001,xx03)                                            (2005,xxB0..B2); patient
UIH        (0065,xx09)                                            (0065,xx37); right, down, normal of the image
Toshiba    none where no gradient was applied                     standard
Canon      standard, ImageComments ``b=1500(0.445,0.000,0.895)``  standard; that of ImageComments is in no known frame
Hitachi    standard                                               standard
=========  =====================================================  ================================================

Where GE tells a multi-shell b-value in its private element only, a shorter gradient stands for a lower one: b is
scaled by the square of its length, and rounded to 5 s/mm2 since components have few digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from imagedata_xr.dicom.damage import read_elements
from imagedata_xr.elements import Raw, Value, decode
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.geometry import unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imagedata_xr.dicom.table import FrameTable

__all__ = [
    "IN_IMAGE_FRAME",
    "OF_DIFFUSION",
    "OF_TILES",
    "Diffusion",
    "Direction",
    "PrivateElement",
    "diffusion",
    "image_kinds",
    "in_image_frame",
    "private_values",
]

Direction = tuple[float, float, float]
_ZERO: Final = 0.03
"""Length below which a direction is none."""
_UNIT: Final = 1.05
"""Length above which it is no unit vector: some scanners mark b = 0 so."""
_GE_OFFSET: Final = 1_000_000_000
_KINDS: Final = {0: "M", 1: "P", 2: "R", 3: "I"}
_COMMENT: Final = re.compile(r"\bb=(\d+(?:\.\d*)?)\s*\(")

# Signs of GE's (frequency, phase, slice) along (right, down, normal) of an image by its plane, for phase encoding along
# columns and along rows (where frequency and phase are swapped first). GE has checked them on volunteers, in dcm2niix.
_GE_SIGNS: Final = {
    "COL": {0: (1, 1, -1), 1: (-1, 1, 1), 2: (-1, -1, 1)},
    "ROW": {0: (1, -1, -1), 1: (1, 1, 1), 2: (-1, 1, 1)},
}


class PrivateElement(NamedTuple):
    """A private element."""

    group: int
    creator: str
    number: int
    vr: str
    maker: str
    """How Manufacturer begins."""


_SIEMENS: Final = "SIEMENS MR HEADER"
_SIEMENS_B: Final = PrivateElement(0x0019, _SIEMENS, 0x0C, "IS", "SIEMENS")
_SIEMENS_KIND: Final = PrivateElement(0x0019, _SIEMENS, 0x0D, "CS", "SIEMENS")
_SIEMENS_DIRECTION: Final = PrivateElement(0x0019, _SIEMENS, 0x0E, "FD", "SIEMENS")
_GE_B: Final = PrivateElement(0x0043, "GEMS_PARM_01", 0x39, "IS", "GE")
_GE_IMAGE: Final = PrivateElement(0x0043, "GEMS_PARM_01", 0x2F, "SS", "GE")
_GE_DIRECTION: Final = [PrivateElement(0x0019, "GEMS_ACQU_01", n, "DS", "GE") for n in (0xBB, 0xBC, 0xBD)]
_PHILIPS_B: Final = PrivateElement(0x2001, "Philips Imaging DD 001", 0x03, "FL", "PHILIPS")
_PHILIPS_IMAGE: Final = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x11, "CS", "PHILIPS")
_PHILIPS_DIRECTION: Final = [
    PrivateElement(0x2005, "Philips MR Imaging DD 001", n, "FL", "PHILIPS") for n in (0xB0, 0xB1, 0xB2)
]
_UIH_B: Final = PrivateElement(0x0065, "Image Private Header", 0x09, "FD", "UIH")
_UIH_DIRECTION: Final = PrivateElement(0x0065, "Image Private Header", 0x37, "FD", "UIH")
_SIEMENS_MATRIX: Final = PrivateElement(0x0019, _SIEMENS, 0x27, "FD", "SIEMENS")
_CSA: Final = [PrivateElement(0x0029, "SIEMENS CSA HEADER", n, "OB", "SIEMENS") for n in (0x10, 0x20)]

IN_IMAGE_FRAME: Final = (*_GE_DIRECTION, _UIH_DIRECTION)
"""Elements that tell a gradient direction along the axes of the image."""
OF_DIFFUSION: Final = (
    *(_SIEMENS_B, _SIEMENS_KIND, _SIEMENS_DIRECTION, _SIEMENS_MATRIX, _CSA[0]),
    *(_GE_B, _PHILIPS_B, *_PHILIPS_DIRECTION, _UIH_B, *IN_IMAGE_FRAME),
)
"""Elements that tell b-value or gradient direction."""
OF_TILES: Final = tuple(_CSA)
"""Elements of a mosaic that say how many slices it has, and are of no slice of it."""


@dataclass(frozen=True)
class Diffusion:
    """What the frames of a series say of diffusion."""

    b: list[float | None]
    """b-value of each frame [s/mm2]; None where it has none."""
    directions: list[Direction | None]
    """Unit vector of the gradient of each frame [LPS+]; None for b = 0, trace, ADC, and where it is not told."""
    doubts: list[str]
    """What a user has to know of them."""


def private_values(table: FrameTable, group: int, creator: str, number: int, vr: str, maker: str) -> list[Value | None]:
    """Return the values of a private element in every frame; None where it is absent.

    Parameters
    ----------
    table : FrameTable
        Frames.
    group, number : int
        Group, and the last two digits of the element.
    creator : str
        Who has to have reserved the block.
    vr : str
        Value representation where the file tells none.
    maker : str
        How Manufacturer begins, in capitals, if the creators of the group are lost.
    """
    n = len(table)
    known = [t for t in {*table.common, *table.varying} if t >> 16 == group]
    creators = [t for t in known if 0x10 <= (t & 0xFFFF) <= 0xFF]
    found: list[Value | None] = [None] * n
    blocks: list[tuple[int, list[bool]]] = []
    for t in creators:
        names = ["" if r is None else r.value.strip(b" \0").decode("latin-1") for r in table.column(t)]
        blocks.append((t & 0xFF, [name == creator for name in names]))
    if not creators and known:
        makers = [str(v or "").upper() for v in table.values("Manufacturer")]
        blocks.append((0x10, [m.startswith(maker) for m in makers]))
    for block, reserved in blocks:
        target = group << 16 | block << 8 | number
        if target not in table.common and target not in table.varying:
            continue
        for row, raw in enumerate(table.column(target)):
            if raw is not None and reserved[row]:
                found[row] = _decode(target, raw, vr)
    return found


def _decode(target: int, raw: Raw, vr: str) -> Value | None:
    """Return a private value; None where it is empty or of another kind."""
    try:
        value = decode(target, Raw(vr, raw.value) if raw.vr == "UN" else raw)
    except ValueError:
        return None
    return None if value == "" else value


def _values(table: FrameTable, element: PrivateElement) -> list[Value | None]:
    return private_values(table, *element)


def _number(value: Value | None) -> float | None:
    """Return a number that is finite, or the first of several."""
    first = value[0] if isinstance(value, list) and value else value
    return float(first) if isinstance(first, int | float) and np.isfinite(first) else None


def _vector(values: Value | list[Value | None] | None) -> tuple[float, float, float] | None:
    """Return three numbers as a vector."""
    if not isinstance(values, list) or len(values) != 3:
        return None
    numbers = [float(v) for v in values if isinstance(v, int | float) and np.isfinite(v)]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _unit(vector: tuple[float, float, float] | None) -> Direction | None:
    """Return a vector of length 1; None for one of no length, or that is no direction."""
    if vector is None:
        return None
    length = float(np.linalg.norm(vector))
    if not _ZERO < length < _UNIT:
        return None
    return (vector[0] / length, vector[1] / length, vector[2] / length)


def diffusion(table: FrameTable) -> Diffusion:
    """Return b-value and gradient direction of each frame, from standard elements or those of the vendor.

    Parameters
    ----------
    table : FrameTable
        Frames of one series.
    """
    makers = [str(v or "").upper() for v in table.values("Manufacturer")]
    b = [_number(v) for v in table.values("DiffusionBValue")]
    vectors = [_vector(v) for v in table.values("DiffusionGradientOrientation")]
    kinds = [str(v or "") for v in table.values("DiffusionDirectionality")]
    for element in (_SIEMENS_B, _PHILIPS_B, _UIH_B):
        b = [have if have is not None else _number(v) for have, v in zip(b, _values(table, element), strict=True)]
    siemens = zip(_values(table, _SIEMENS_KIND), _values(table, _SIEMENS_DIRECTION), strict=True)
    for row, (kind, value) in enumerate(siemens):
        kinds[row] = kinds[row] or str(kind or "")
        vectors[row] = vectors[row] or _vector(value)
    for row, parts in enumerate(zip(*(_values(table, e) for e in _PHILIPS_DIRECTION), strict=True)):
        vectors[row] = vectors[row] or _vector(list(parts))
    _add_csa(table, makers, b, vectors, kinds)
    oblique = _frames_of_images(table)
    for row, value in enumerate(_values(table, _UIH_DIRECTION)):
        vector, frame = _vector(value), oblique[row]
        if vectors[row] is None and vector is not None and frame is not None:
            normal, down, right = frame
            vectors[row] = _tuple(vector[0] * right + vector[1] * down + vector[2] * normal)
    doubts = _add_ge(table, b, vectors, oblique)
    doubts += _add_canon(table, makers, b, vectors)
    doubts += _odd_lengths(b, vectors, kinds)
    directions = [
        None if not value or kind in ("NONE", "ISOTROPIC") else _unit(vector)
        for value, vector, kind in zip(b, vectors, kinds, strict=True)
    ]
    return Diffusion(b, directions, list(dict.fromkeys(doubts)))


def _odd_lengths(b: list[float | None], vectors: list[Direction | None], kinds: list[str]) -> list[str]:
    """Return what to say of gradients of weighted images that are no unit vectors, as some versions of scanners write.

    GE and Siemens tell shells by shorter ones, in elements without a directionality; longer ones mean nothing.
    """
    odd: dict[str, list[float]] = {}
    for value, vector, kind in zip(b, vectors, kinds, strict=True):
        if not value or vector is None or kind in ("NONE", "ISOTROPIC"):
            continue
        length = float(np.linalg.norm(vector))
        if length >= _UNIT:
            odd.setdefault("are longer than 1, and so no directions: bx, by and bz are NaN there", []).append(length)
        elif kind == "DIRECTIONAL" and _ZERO < length < 1 / _UNIT:
            odd.setdefault("are shorter than 1; their directions are taken, and b-values as told", []).append(length)
    return [
        f"gradients of {len(lengths)} frames with a b-value {what}. One has the length {lengths[0]:.3g}, a unit vector "
        "is wanted: compare them with the protocol"
        for what, lengths in odd.items()
    ]


def _tuple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    return (float(vector[0]), float(vector[1]), float(vector[2]))


def _frames_of_images(table: FrameTable) -> list[NDArray[np.float64] | None]:
    """Return the unit vectors (normal, down, right) of each frame [LPS+]; None where it has no orientation."""
    known: dict[tuple[float, ...], NDArray[np.float64]] = {}
    found: list[NDArray[np.float64] | None] = []
    for value in table.values("ImageOrientationPatient"):
        if not isinstance(value, list) or len(value) != 6 or not all(isinstance(v, int | float) for v in value):
            found.append(None)
            continue
        key = tuple(float(v) for v in value)
        if key not in known:
            known[key] = unit_vectors(np.asarray(key))
        found.append(known[key])
    return found


def _add_csa(
    table: FrameTable,
    makers: list[str],
    b: list[float | None],
    vectors: list[Direction | None],
    kinds: list[str],
) -> None:
    """Take what Siemens' CSA header says, for diffusion frames without an element that says it."""
    types = table.values("ImageType")
    for row, value in enumerate(types):
        if b[row] is not None or not makers[row].startswith("SIEMENS"):
            continue
        if not isinstance(value, list) or "DIFFUSION" not in value:
            continue
        version = int(table.sizes[row]), int(table.mtimes[row])
        b[row], vectors[row], kinds[row] = _csa_diffusion(table.paths[row], *version)


@lru_cache(maxsize=4096)
def _csa_diffusion(path: str, _size: int, _mtime: int) -> tuple[float | None, Direction | None, str]:
    """Return b-value, direction and directionality of a CSA header; the file's size and time are those of the cache."""
    from imagedata_xr.dicom.csa import csa

    found = csa(read_elements(path))
    try:
        values = [float(v) for v in found.get("B_value", [])[:1]]
        vector = [float(v) for v in found.get("DiffusionGradientDirection", [])]
    except ValueError as err:
        msg = f"{path} has a CSA header whose b-value or gradient direction is no number"
        raise UnreadableFileError(msg) from err
    kind = "".join(found.get("DiffusionDirectionality", [])[:1])
    return (max(values[0], 0.0) if values else None), _vector(list(vector)), kind


def _add_ge(
    table: FrameTable,
    b: list[float | None],
    vectors: list[Direction | None],
    oblique: list[NDArray[np.float64] | None],
) -> list[str]:
    """Take what GE says: b with an offset, and directions along frequency, phase and slice of the image."""
    numbers = [_number(v) for v in _values(table, _GE_B)]
    if all(v is None for v in numbers):
        return []
    doubts: list[str] = []
    gradients = [_vector(list(v)) for v in zip(*(_values(table, e) for e in _GE_DIRECTION), strict=True)]
    phases, types, zeroed = table.values("InPlanePhaseEncodingDirection"), table.values("ImageType"), 0
    for row, number in enumerate(numbers):
        if number is None:
            continue
        gradient = gradients[row]
        if b[row] is None:
            value = number % _GE_OFFSET
            length = 0.0 if gradient is None else float(np.linalg.norm(gradient))
            b[row] = 5.0 * round(value * length**2 / 5) if _ZERO < length < 0.97 else value
        frame = oblique[row]
        if not b[row] or vectors[row] is not None or gradient is None or frame is None:
            continue
        if np.linalg.norm(gradient) <= _ZERO:
            zeroed += "DERIVED" not in str(types[row])
            continue
        phase = str(phases[row] or "").strip().upper()
        if phase not in _GE_SIGNS:
            phase = "COL"
            doubts.append(
                "InPlanePhaseEncodingDirection is absent: gradient directions of GE are taken to be those of phase "
                "encoding along columns; if it was along rows, x and y of the image are swapped in them"
            )
        normal, down, right = frame
        signs = _GE_SIGNS[phase][int(np.argmax(np.abs(normal)))]
        x, y, z = gradient
        if phase == "ROW":
            x, y = y, x
        vectors[row] = _tuple(signs[0] * x * right + signs[1] * y * down + signs[2] * z * normal)
    if zeroed:
        doubts.append(
            f"gradients of {zeroed} frames with a b-value are zero, which is no direction: bx, by and bz are NaN "
            "there. They may be trace images, or of b = 0 in a gradient table of the user's own, of which GE tells the "
            "b-value of the others, or a de-identifier has zeroed them: compare them with the protocol"
        )
    return doubts


def in_image_frame(
    direction: NDArray[np.float64], orientation: NDArray[np.float64], phase: str
) -> dict[PrivateElement, list[float]]:
    """Return what the elements `IN_IMAGE_FRAME` say of a gradient direction; only those that are known to say so.

    Parameters
    ----------
    direction : ndarray, shape (3,)
        Unit vector [LPS+], or zeros for none.
    orientation : ndarray, shape (6,)
        ImageOrientationPatient.
    phase : str
        InPlanePhaseEncodingDirection.
    """
    normal, down, right = unit_vectors(orientation)
    along = [float(direction @ axis) for axis in (right, down, normal)]
    found = {_UIH_DIRECTION: along}
    if phase in _GE_SIGNS:
        signs = _GE_SIGNS[phase][int(np.argmax(np.abs(normal)))]
        parts = [sign * part for sign, part in zip(signs, along, strict=True)]
        if phase == "ROW":
            parts[:2] = parts[1::-1]
        found |= {element: [part] for element, part in zip(_GE_DIRECTION, parts, strict=True)}
    return found


def _add_canon(
    table: FrameTable, makers: list[str], b: list[float | None], vectors: list[Direction | None]
) -> list[str]:
    """Take what Canon and Toshiba say: b in ImageComments, and none where no gradient was applied."""
    rows = [row for row, maker in enumerate(makers) if maker.startswith(("CANON", "TOSHIBA"))]
    doubts: list[str] = []
    comments = table.values("ImageComments")
    for row in rows:
        match = _COMMENT.search(str(comments[row] or ""))
        if match is None:
            continue
        if b[row] is None:
            b[row] = float(match[1])
        if b[row] and vectors[row] is None:
            doubts.append(
                "gradient directions in ImageComments are in no documented frame: bx, by and bz are NaN where no "
                "DiffusionGradientOrientation is"
            )
    types = table.values("ImageType")
    if any(b[row] for row in rows):
        for row in rows:
            kind = types[row]
            if b[row] is None and not (isinstance(kind, list) and kind[0] == "DERIVED"):
                b[row] = 0.0
    return doubts


def image_kinds(table: FrameTable) -> list[str]:
    """Return of each frame whether it is magnitude, phase, real or imaginary: M, P, R, I, or what else Philips says.

    From ComplexImageComponent (PS3.3 C.8.13.3.1.1), else Philips' (2005,xx11), else GE's (0043,xx2F); "" where no
    element tells.
    """
    words = {"MAGNITUDE": "M", "PHASE": "P", "REAL": "R", "IMAGINARY": "I"}
    kinds = [words.get(str(v or ""), str(v or "")) for v in table.values("ComplexImageComponent")]
    for row, value in enumerate(_values(table, _PHILIPS_IMAGE)):
        kinds[row] = kinds[row] or str(value or "")
    for row, value in enumerate(_values(table, _GE_IMAGE)):
        kinds[row] = kinds[row] or (_KINDS.get(value, "") if isinstance(value, int) else "")
    return kinds
