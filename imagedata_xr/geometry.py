"""Where voxels are: image planes in the patient, as one position axis for each of slice, row and col.

Everything is in the patient frame of DICOM (PS3.3 C.7.6.2.1.1), LPS+: x grows to the patient's left, y to
the back, z to the head [mm]. Directions and matrices are in the index order (slice, row, col).

A stack of planes has three directions: `right`, in which the column number grows, `down`, in which the row
number grows, and the normal ``n = right x down``. A voxel at the positions ``slice``, ``row``, ``col`` [mm]
lies at ::

    p = slice * (n + shear[0] * down + shear[1] * right) + row * down + col * right

The shear is zero unless the planes are displaced along themselves from one to the next (a tilted gantry).
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from imagedata_xr.errors import GeometryError, NotAStackError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "COSINE_TOLERANCE",
    "POSITION_TOLERANCE",
    "Frame",
    "Stack",
    "affine_matrix",
    "axis_directions",
    "facing",
    "format_gaps",
    "format_numbers",
    "frame_difference",
    "have_same_axes",
    "is_even",
    "line_tolerance",
    "lps_to_ras",
    "make_frame",
    "patient_orientation",
    "stack_positions",
    "unit_vectors",
]

POSITION_TOLERANCE: Final = 1e-3
"""Positions closer than this [mm] are one place; scanners round ImagePositionPatient to about 1e-4 mm."""

COSINE_TOLERANCE: Final = 1e-4
"""Direction cosines closer than this are one direction: 0.05 mm over a field of view of 500 mm."""

_COSINE_ERROR: Final = 1e-2  # a rounded header is off by some 1e-6, a wrong one by more than this
_LINE_ERROR: Final = 0.1  # mm that a slice may lie beside the line of the others
_LINE_PART: Final = 0.5  # of a pixel, where it is that small, as of a microscope: a slice beside it is at other pixels
_LEAST_SHEAR: Final = 5e-3  # mm that the last slice must be displaced for a shear to be more than rounding
_LEAST_SHEAR_PART: Final = 0.05  # of a pixel, where it is that small
_SHEAR_ERROR: Final = 1e-2  # mm by which two shears may displace a slice and still be one
_EVEN_PART: Final = 0.02  # of the step
_EVEN_ERROR: Final = 0.01  # mm
_MOST_UNEVEN: Final = 0.25  # of the step; a slice that is missing puts others half a step off the line
_DIGITS: Final = 9  # of positions [mm]: cuts the noise of the arithmetic, keeps all that DICOM can say

_LETTERS: Final = ("LR", "PA", "HF")  # PS3.3 C.7.6.1.1.1, for +x -x, +y -y, +z -z


class Frame(NamedTuple):
    """The constant part of a geometry: six direction cosines (right, down) and the shear (down, right)."""

    orientation: tuple[float, ...]
    shear: tuple[float, ...]


class Stack(NamedTuple):
    """Positions [mm] of the slices, rows and columns of a stack, and its shear."""

    positions: dict[str, NDArray[np.float64]]
    shear: tuple[float, float]


def make_frame(orientation: ArrayLike, shear: ArrayLike = (0.0, 0.0)) -> Frame:
    """Return a frame of plain floats, checked for its shape and for finite numbers.

    Parameters
    ----------
    orientation : array_like, shape (6,)
        ImageOrientationPatient, kept as given (unit_vectors() makes it orthonormal where it is used).
    shear : array_like, shape (2,)
        Displacement along down and along right for each mm along the normal.

    Raises
    ------
    GeometryError
        If these are not six and two finite numbers, or not two perpendicular directions.
    """
    cosines = _numbers(orientation, (6,), "ImageOrientationPatient")
    slopes = _numbers(shear, (2,), "slice_shear")
    unit_vectors(cosines)
    return Frame(tuple(cosines.tolist()), tuple(slopes.tolist()))


def unit_vectors(orientation: ArrayLike) -> NDArray[np.float64]:
    """Return the orthonormal directions (n, down, right), one a row, shape (3, 3), LPS+.

    Cosines in a header (PS3.3 C.7.6.2.1.1) are rounded, so they are made orthonormal: right keeps its
    direction, down gives way.

    Parameters
    ----------
    orientation : array_like, shape (6,)
        ImageOrientationPatient: direction of a row (right), then of a column (down).

    Raises
    ------
    GeometryError
        If a direction is not of unit length, or the two not perpendicular, within 1e-2.

    Examples
    --------
    >>> unit_vectors([1, 0, 0, 0, 1, 0])
    array([[0., 0., 1.],
           [0., 1., 0.],
           [1., 0., 0.]])
    """
    right, down = _numbers(orientation, (6,), "ImageOrientationPatient").reshape(2, 3)
    for name, vector in (("row", right), ("column", down)):
        length = float(np.linalg.norm(vector))
        if abs(length - 1) > _COSINE_ERROR:
            raise GeometryError(
                f"the {name} direction of ImageOrientationPatient {format_numbers(vector)} has length {length:.4g}, "
                "not 1; correct it in the header, or give the geometry of another image"
            )
    right = right / np.linalg.norm(right)
    if abs(float(right @ down)) > _COSINE_ERROR:
        raise GeometryError(
            f"the directions of ImageOrientationPatient {format_numbers(right)} and {format_numbers(down)} are not "
            f"perpendicular (cosine {right @ down:.4g}); correct it in the header, or give the geometry of "
            "another image"
        )
    down = down - (right @ down) * right
    down /= np.linalg.norm(down)
    return np.stack([np.cross(right, down), down, right]) + 0.0  # + 0.0 makes -0.0 plain


def axis_directions(frame: Frame) -> NDArray[np.float64]:
    """Return how far a voxel moves [mm, LPS+] for each mm of slice, row, col position, shape (3, 3).

    One direction is one row of the result. Only that of slice is not of unit length when there is a shear.

    Examples
    --------
    >>> axis_directions(Frame((1, 0, 0, 0, 1, 0), (0.25, 0)))[0]
    array([0.  , 0.25, 1.  ])
    """
    normal, down, right = unit_vectors(frame.orientation)
    return np.stack([normal + frame.shear[0] * down + frame.shear[1] * right, down, right])


def frame_difference(a: Frame, b: Frame, reach: float) -> str | None:
    """Return what makes two frames different, in words, or None if they are the same within tolerance.

    Parameters
    ----------
    a, b : Frame
        Orientations are the same when no cosine differs by more than 1e-4.
    reach : float
        Largest distance [mm] along the normal at which the shears are to displace a voxel alike, within
        1e-2 mm.
    """
    if a == b:
        return None
    if np.abs(np.subtract(a.orientation, b.orientation)).max() > COSINE_TOLERANCE:
        return f"ImageOrientationPatient is {format_numbers(a.orientation)} against {format_numbers(b.orientation)}"
    if np.abs(np.subtract(a.shear, b.shear)).max() * reach > _SHEAR_ERROR:
        return f"slice_shear is {format_numbers(a.shear)} against {format_numbers(b.shear)}"
    return None


def have_same_axes(a: Frame, b: Frame) -> bool:
    """Return whether slice, row and col of two frames run along the same three lines, in any order and either way.

    Examples
    --------
    >>> have_same_axes(Frame((1, 0, 0, 0, 1, 0), (0, 0)), Frame((0, -1, 0, 0, 0, 1), (0, 0)))
    True
    """
    if any(a.shear) or any(b.shear):
        return all(abs(one @ other) > 1 - COSINE_TOLERANCE for one, other in zip(*map(_unit_axes, (a, b)), strict=True))
    cosines = np.abs(_unit_axes(a) @ _unit_axes(b).T)
    return bool((cosines.max(axis=1) > 1 - COSINE_TOLERANCE).all())


def _unit_axes(frame: Frame) -> NDArray[np.float64]:
    """Return the directions of `axis_directions`, each of unit length."""
    directions = axis_directions(frame)
    lengths: NDArray[np.float64] = np.linalg.norm(directions, axis=1, keepdims=True)
    return directions / lengths


def facing(frame: Frame, like: Frame) -> tuple[Frame, NDArray[np.float64]]:
    """Return a frame turned round where its directions oppose those of another, and the sign of each axis.

    The signs, of slice, row and col, shape (3,), make positions in the one those of the same voxels in the other.

    Examples
    --------
    >>> facing(Frame((1, 0, 0, 0, -1, 0), (0, 0)), Frame((1, 0, 0, 0, 1, 0), (0, 0)))
    (Frame(orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), shear=(0.0, 0.0)), array([-1., -1.,  1.]))
    """
    cosines = (unit_vectors(frame.orientation) * unit_vectors(like.orientation)).sum(axis=1)
    down, right = (-1.0 if cosine < 0 else 1.0 for cosine in cosines[1:])
    across = down * right  # the normal follows from these two
    orientation = np.asarray(frame.orientation) * np.repeat([right, down], 3) + 0.0
    shear = np.asarray(frame.shear) * [across * down, across * right] + 0.0
    return make_frame(orientation, shear), np.array([across, down, right])


def stack_positions(
    image_positions: ArrayLike, orientation: ArrayLike, pixel_spacing: ArrayLike, rows: int, cols: int
) -> Stack:
    """Return the positions of slices, rows and columns [mm], and the shear of the stack.

    Slices stay in the order given, may be any distance apart, and must have one orientation.

    Parameters
    ----------
    image_positions : array_like, shape (n, 3)
        ImagePositionPatient of each slice: the centre of its first voxel [mm, LPS+].
    orientation : array_like, shape (6,)
        ImageOrientationPatient, common to all slices.
    pixel_spacing : array_like, shape (2,)
        PixelSpacing: distance between rows, between columns [mm].
    rows, cols : int
        Number of rows and columns.

    Returns
    -------
    Stack
        Positions by dim (for an axial image slice is z, row is y, col is x), and the shear.

    Raises
    ------
    NotAStackError
        If the first voxels of the slices do not lie within 0.1 mm, or half a pixel, of one straight line.
    GeometryError
        If a number is missing, not finite, or no spacing or direction.

    Examples
    --------
    >>> positions, shear = stack_positions([[-9, -8, 0], [-9, -8, 3]], [1, 0, 0, 0, 1, 0], [2, 1], 2, 3)
    >>> positions["slice"], positions["row"], positions["col"], shear
    (array([0., 3.]), array([-8., -6.]), array([-9., -8., -7.]), (0.0, 0.0))
    """
    points = np.atleast_2d(np.asarray(image_positions, dtype=float))
    points = _numbers(points, (len(points), 3), "ImagePositionPatient")
    spacing = _numbers(pixel_spacing, (2,), "PixelSpacing")
    if not len(points):
        raise GeometryError("no ImagePositionPatient was given; a stack has at least one slice")
    if (spacing <= 0).any():
        raise GeometryError(f"PixelSpacing is {format_numbers(spacing)} mm; both distances must be more than zero")
    along, *across = unit_vectors(orientation) @ points.T
    beside = np.stack(across)  # of the first voxel of each slice, along down and along right
    shear = _fit_shear(along, beside, min(_LEAST_SHEAR, _LEAST_SHEAR_PART * float(spacing.min())))
    beside = beside - shear[:, np.newaxis] * along
    start = beside.mean(axis=1)
    distance = np.hypot(*(beside - start[:, np.newaxis]))
    allowed = line_tolerance(spacing)
    if distance.max() > allowed:
        worst = int(distance.argmax())
        raise NotAStackError(
            f"slice {worst} at {format_numbers(points[worst])} mm lies {distance[worst]:.3g} mm beside the straight "
            f"line of the {len(points)} slices, in a stack at most {allowed:g} mm; open the slices in "
            "groups or one by one"
        )
    positions = {
        "slice": along,
        "row": start[0] + spacing[0] * np.arange(rows),
        "col": start[1] + spacing[1] * np.arange(cols),
    }
    rounded = {dim: values.round(_DIGITS) + 0.0 for dim, values in positions.items()}
    return Stack(rounded, (float(shear[0]), float(shear[1])))


def line_tolerance(steps: ArrayLike) -> float:
    """Return how far [mm] a slice may lie beside the line of its stack: 0.1, or half the smallest step if that is less.

    Parameters
    ----------
    steps : array_like
        Distances of pixels, and of slices where they are to count [mm]. Those that are no distance do not count.

    Examples
    --------
    >>> line_tolerance([0.5, 0.5]), line_tolerance([0.01, 0.02])
    (0.1, 0.005)
    """
    values = np.asarray(steps, dtype=float)
    return float(min([_LINE_ERROR, *(_LINE_PART * values[values > 0])]))


def is_even(positions: ArrayLike) -> bool:
    """Return whether positions are evenly spaced: within 2 % of the step, or 0.01 mm, of the straight line.

    The line goes from the first position to the last. Positions in a header are rounded, so that gaps of 6.95
    to 7.07 mm can belong to an even stack. Of steps of less than 0.04 mm, as of a microscope, a quarter is allowed.

    Parameters
    ----------
    positions : array_like, shape (n,)
        Positions [mm] in index order; one position is even, two are if they differ.

    Examples
    --------
    >>> is_even([0, 6.95, 14.02, 21]), is_even([0, 5, 10, 20])
    (True, False)
    """
    values = np.asarray(positions, dtype=float)
    if values.size < 2:
        return True
    step = (values[-1] - values[0]) / (values.size - 1)
    error = np.abs(values - np.linspace(values[0], values[-1], values.size)).max()
    allowed = max(_EVEN_PART * abs(step), min(_EVEN_ERROR, _MOST_UNEVEN * abs(step)))
    return bool(abs(step) > POSITION_TOLERANCE and error <= allowed)


def format_gaps(positions: ArrayLike) -> str:
    """Return how positions that are not even lie, for messages: at uneven distances, or too near to one another.

    Examples
    --------
    >>> format_gaps([0, 5, 10, 20])
    'at uneven distances 5.00..10.00 mm'
    """
    gaps = np.abs(np.diff(np.asarray(positions, dtype=float)))
    if gaps.max() <= POSITION_TOLERANCE:
        return f"{gaps.max():.3g} mm apart, and what is not more than {POSITION_TOLERANCE:g} mm apart is one place"
    return f"at uneven distances {gaps.min():.2f}..{gaps.max():.2f} mm"


def affine_matrix(directions: ArrayLike, start: ArrayLike, step: ArrayLike) -> NDArray[np.float64]:
    """Return the matrix from (slice, row, col) numbers to the patient [mm, LPS+], shape (4, 4).

    Parameters
    ----------
    directions : array_like, shape (3, 3)
        From axis_directions().
    start, step : array_like, shape (3,)
        Position of the first slice, row, col, and from one to the next [mm].

    Examples
    --------
    >>> affine_matrix(unit_vectors([1, 0, 0, 0, 1, 0]), [-30, 5, 7], [3, 2, 1])
    array([[  0.,   0.,   1.,   7.],
           [  0.,   2.,   0.,   5.],
           [  3.,   0.,   0., -30.],
           [  0.,   0.,   0.,   1.]])
    """
    axes = np.asarray(directions, dtype=float)
    matrix = np.eye(4)
    matrix[:3, :3] = axes.T * np.asarray(step, dtype=float)
    matrix[:3, 3] = np.asarray(start, dtype=float) @ axes
    return matrix + 0.0


def lps_to_ras(affine: ArrayLike) -> NDArray[np.float64]:
    """Return an affine to LPS+ as one to RAS+ (NIfTI's frame), or the other way round, shape (4, 4).

    Examples
    --------
    >>> lps_to_ras(np.eye(4)).diagonal()
    array([-1., -1.,  1.,  1.])
    """
    flipped: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=float) + 0.0
    return flipped


def patient_orientation(directions: ArrayLike) -> tuple[str, str, str]:
    """Return the letters of the anatomical directions nearest to three axes, no two along one.

    The letters are those of PatientOrientation (PS3.3 C.7.6.1.1.1): L, R, P, A, H, F.

    Parameters
    ----------
    directions : array_like, shape (3, 3)
        Direction of growing slice, row, col number, one a row, LPS+.

    Examples
    --------
    >>> patient_orientation([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    ('H', 'P', 'R')
    """
    axes = np.asarray(directions, dtype=float)
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    best = max(permutations(range(3)), key=lambda xyz: np.abs(axes[range(3), xyz]).sum())
    first, second, third = (_LETTERS[xyz][int(axes[i, xyz] < 0)] for i, xyz in enumerate(best))
    return first, second, third


def _fit_shear(along: NDArray[np.float64], beside: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return the slope of `beside` over `along` by least squares, exactly zero if it displaces by less than `least`."""
    span = np.ptp(along)
    if span <= POSITION_TOLERANCE:
        return np.zeros(2)
    centred = along - along.mean()
    shear = (beside - beside.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)
    return np.zeros(2) if np.hypot(*shear) * span < least else shear.round(6) + 0.0


def _numbers(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Return the values as floats, checked."""
    wanted = " x ".join(map(str, shape))
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise GeometryError(f"{name} is {values!r}; {wanted} numbers are needed") from None
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise GeometryError(f"{name} is {format_numbers(numbers.ravel()[:12])}; {wanted} finite numbers are needed")
    return numbers


def format_numbers(values: ArrayLike) -> str:
    """Return numbers as they are written in a message, "(1, 0.5)"."""
    return "(" + ", ".join(f"{v:.6g}" for v in np.ravel(np.asarray(values, dtype=float))) + ")"
