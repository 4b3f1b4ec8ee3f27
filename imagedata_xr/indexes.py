"""Indexes that join images by meaning, position to position and volume to volume.

`PositionIndex` holds the positions [mm] of slice, row or col, and the frame (orientation, shear) they are
counted in. Positions within 1e-3 mm, or a quarter of the mean step if that is less, are one place; images in other
frames, or with no place in common, do not join.

`TagIndex` holds the labels of the volumes (time, b, te, ...). Labels match within a tolerance that is fixed
when the index is made; a join pairs all volumes of the smaller image, or raises.

Both are pandas indexes for xarray: selection, groupby, plotting work as ever. Labels that agree within
tolerance are equal, and results have those of the first operand; only `xarray.concat` of such images raises,
since it compares labels itself, and `imagedata_xr.combine.concat` is the way. They are lost, and
`imagedata_xr.positions.index_positions` restores them, where xarray makes new coordinates: `interp`,
`coarsen`, `unstack`, `assign_coords` with plain values, inside a function that `map_blocks` calls, and
reading from netCDF or Zarr. An array that has lost them joins one that has them only if the labels are
identical, else xarray raises; two that have lost them join as plain xarray does, which is by identical labels
only, down to an empty array. xarray asks neither for frames: that the images were in different ones comes out
when the place of the result is asked for, by a coordinate that is not lost (see `imagedata_xr.placement`).

`xarray.DataArray.reindex` with plain labels raises (xarray compares the types of the indexes): use `sel` with
``method="nearest"``, or `reindex_like`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, cast

import numpy as np
import pandas as pd
from xarray.indexes import PandasIndex

from imagedata_xr.errors import GeometryError, PairingError
from imagedata_xr.geometry import POSITION_TOLERANCE, Frame, frame_difference, have_same_axes, make_frame
from imagedata_xr.names import SPATIAL_DIMS, TAG_UNITS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    import xarray as xr
    from numpy.typing import ArrayLike, NDArray
    from xarray.core.indexing import IndexSelResult
    from xarray.indexes import Index

__all__ = ["RESAMPLE", "TURN", "PositionIndex", "TagIndex", "format_labels"]

RESAMPLE: Final = (
    "resample one onto the grid of the other, b.dicom.resample_like(a), not with interp or interp_like, which know no "
    "frames"
)
"""What to do with images in different frames, for messages."""

TURN: Final = "their axes are the same but run the other way or in another order: turn one, b.dicom.turn_like(a)"
"""What to do with images that are mirrored in the patient, or whose dims are exchanged, for messages."""

TAKE_PLACE: Final = "b.dicom.assign_geometry(a) gives it that of a, voxel by voxel, and turns none"
"""What to do with an image whose own place is none, for messages."""

_TOLERANCES: Final = {"te": 1e-3, "fa": 1e-3, "b": 1.0}  # in the dim's own unit
_LONE_TIME: Final = 1e-3  # s, where a single volume leaves no step to take a part of
_STEP_PART: Final = 0.25  # of the smallest step between labels, which no tolerance exceeds
_ROUNDING: Final = 1e-6  # of the largest label


class _LabelIndex(PandasIndex):
    """A pandas index whose labels match those of another within a tolerance."""

    def _like(self, labels: pd.Index | NDArray[Any]) -> Self:
        """Return this index with other labels, which get its name."""
        return self._replace(pd.Index(labels, name=self.index.name))

    def _replace(self, index: pd.Index, dim: Hashable | None = None, coord_dtype: Any = None) -> Self:
        dim = self.dim if dim is None else dim
        dtype = self.coord_dtype if coord_dtype is None else coord_dtype
        return type(self)(index, dim, coord_dtype=dtype, fastpath=True, **self._own())

    def _own(self) -> dict[str, Any]:
        """Return what a new index of this kind gets from this one."""
        raise NotImplementedError

    def _tolerance_with(self, other: Self) -> float:
        raise NotImplementedError

    def _matches(self, other: Self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return, for each label here, the number of the nearest one of `other` or -1, and how many match."""
        return _match(self.index, other.index, self._tolerance_with(other))

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None) -> IndexSelResult:
        """Return where the labels are; KeyError says what labels there are, where one is none of them.

        xarray's own advises ``method="nearest"``, which gives who means the third slice one that is near 3 mm.
        """
        try:
            return super().sel(labels, method=method, tolerance=tolerance)
        except KeyError as error:
            dim, wanted = next(iter(labels.items()))
            raise KeyError(self._not_here(dim, wanted, method)) from error

    def _not_here(self, dim: Hashable, wanted: Any, method: str | None) -> str:
        """Return the message of labels that are not there."""
        if isinstance(wanted, slice):
            text = f"{wanted.start}..{wanted.stop}"
        else:
            asked = np.asarray(wanted)
            text = str(asked[()]) if asked.ndim == 0 else format_labels(pd.Index(asked.ravel()))
        have = format_labels(self.index)
        unit = f" {self._unit}" if self._unit else ""
        advice = f"isel({dim}=...) takes numbers, from 0"
        if method is None and not isinstance(wanted, slice) and self.index.dtype.kind in "iuf":
            advice += f'; sel({dim}=..., method="nearest") takes the nearest label'
        return f"no {dim} at {text}{unit}: labels along {dim} are {have}{unit}. {advice}"

    @property
    def _unit(self) -> str:
        return TAG_UNITS.get(str(self.dim), "")

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        """Return whether each label matches the one at its place in `other`."""
        if not isinstance(other, type(self)):
            return bool(super().equals(other, exclude=exclude))
        if self.dim != other.dim or self.index.size != other.index.size:
            return False
        return _close(self.index, other.index, self._tolerance_with(other))

    def _union(self, other: Self, matched: NDArray[np.bool_]) -> Self:
        """Return the labels here, and those of `other` that are not matched, sorted if both are."""
        mine, theirs = self.index, other.index
        both = mine.append(theirs[~matched])
        if mine.is_monotonic_increasing and theirs.is_monotonic_increasing:
            both = both.sort_values()
        elif mine.is_monotonic_decreasing and theirs.is_monotonic_decreasing:
            both = both.sort_values(ascending=False)
        return self._like(both)

    def _span(self) -> str:
        labels = self.index
        if not labels.size:
            return "(none)"
        if labels.dtype.kind in "iuf":
            return f"{labels.min():.6g}..{labels.max():.6g} ({labels.size})"
        return f"{labels[0]}..{labels[-1]} ({labels.size})"


class PositionIndex(_LabelIndex):
    """Positions along one image axis [mm]; equality and joins within 1e-3 mm or a quarter of the step, in one frame.

    Parameters
    ----------
    array : array_like, shape (n,)
        Positions [mm].
    dim : hashable
        Dimension, "slice", "row" or "col".
    coord_dtype : dtype, optional
        Data type of the coordinate.
    frame : Frame
        Orientation and shear that the positions are counted in.
    axis : hashable, optional
        Axis of the image that they lie along, where `dim` has another name; the dim, if None.
    fastpath : bool
        Whether `array` is a pandas index already.
    """

    frame: Frame
    axis: Hashable

    def __init__(
        self,
        array: Any,
        dim: Hashable,
        coord_dtype: Any = None,
        *,
        frame: Frame,
        axis: Hashable | None = None,
        fastpath: bool = False,
    ) -> None:
        super().__init__(array, dim, coord_dtype, fastpath=fastpath)
        self.frame, self.axis = frame, dim if axis is None else axis

    @classmethod
    def from_variables(cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]) -> PositionIndex:
        """Return an index of one coordinate; `options` are `orientation` (6 cosines) and `shear` (2)."""
        plain = PandasIndex.from_variables(variables, options={})
        frame = make_frame(**options)
        return cls(plain.index, plain.dim, plain.coord_dtype, frame=frame, fastpath=True)

    def _own(self) -> dict[str, Any]:
        return {"frame": self.frame, "axis": self.axis}

    @property
    def _unit(self) -> str:
        return "mm"

    def _tolerance_with(self, other: Self) -> float:
        return min(POSITION_TOLERANCE, *(_STEP_PART * _mean_step(index.index) for index in (self, other)))

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Return the index of a dim of another name; GeometryError if that is another axis of the image.

        Positions along one axis say nothing of another: rows that are called columns would be at a wrong place.
        """
        new = dims_dict.get(self.dim, self.dim)
        if new in SPATIAL_DIMS and new != self.axis:
            raise GeometryError(
                f"positions along {self.axis} cannot be renamed to {new}: they are counted along another axis of the "
                "patient. image.dicom.to_patient_orientation(...) exchanges axes and keeps all voxels at their place; "
                f"image.drop_vars({self.dim!r}) leaves the image without one"
            )
        return cast("Self", super().rename(name_dict, dims_dict))  # type: ignore[no-untyped-call]

    @classmethod
    def concat(
        cls,
        indexes: Sequence[Self],
        dim: Hashable,
        positions: Iterable[Iterable[int]] | None = None,
    ) -> Self:
        """Return the positions of all, one after another; GeometryError if their frames differ."""
        first = indexes[0]
        for other in indexes[1:]:
            if isinstance(other, cls):
                first._check_frame(other)
        return first._replace(cls._concat_indexes(indexes, dim, positions))

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        """Return whether frames and positions are the same within tolerance."""
        if isinstance(other, PositionIndex) and self._frame_difference(other) is not None:
            return False
        return super().equals(other, exclude=exclude)

    def join(self, other: Self, how: str = "inner") -> Self:
        """Return the common positions (inner) or all (outer), as they are written here.

        Raises
        ------
        GeometryError
            If the frames differ, no position is common, or the positions are those of two grids that meet
            here and there.
        """
        self._check_frame(other)
        mine, theirs = self.index, other.index
        if not mine.size or not theirs.size:
            return self if (mine.size < theirs.size) == (how == "inner") else self._like(theirs)
        here, there = self._matches(other)[0] >= 0, other._matches(self)[0] >= 0
        one_grid = _whole_within(mine, here, theirs) or _whole_within(theirs, there, mine)
        if how == "outer" and (one_grid or mine.min() > theirs.max() or theirs.min() > mine.max()):
            return self._union(other, there)
        if not one_grid:
            common = f"only {here.sum()}" if here.any() else "no"
            raise GeometryError(
                f"images have {common} {self.dim} positions in common: {self._span()} mm against "
                f"{other._span()} mm; resample one onto the grid of the other, b.dicom.resample_like(a), or, if the "
                f"place of b is wrong, {TAKE_PLACE}"
            )
        return self._like(mine[here])

    def reindex_like(self, other: Self, method: str | None = None, tolerance: Any = None) -> dict[Hashable, Any]:
        """Return for each position of `other` the number here, -1 for none; GeometryError if several are there."""
        if method is not None or tolerance is not None:
            return super().reindex_like(other, method=method, tolerance=tolerance)
        found, count = other._matches(self)
        if count.max(initial=0) > 1:
            raise GeometryError(
                f"some {self.dim} positions occur {count.max()} times in {self._span()} mm; choose one of each with "
                f"isel({self.dim}=...)"
            )
        return {self.dim: found}

    def _frame_difference(self, other: PositionIndex) -> str | None:
        positions = np.concatenate([self.index, other.index]) if self.dim == "slice" else np.zeros(1)
        return frame_difference(self.frame, other.frame, float(np.abs(positions).max(initial=0.0)))

    def _check_frame(self, other: PositionIndex) -> None:
        difference = self._frame_difference(other)
        if difference is not None:
            advice = TURN if have_same_axes(self.frame, other.frame) else RESAMPLE
            raise GeometryError(
                f"images are in different frames: {difference}; {advice}. If the place of b is wrong, {TAKE_PLACE}"
            )

    def __repr__(self) -> str:
        return f"PositionIndex({self.index!r}, {self.frame})"

    def _repr_inline_(self, max_width: int) -> str:
        return f"PositionIndex ({self._span()} mm)"


class TagIndex(_LabelIndex):
    """Labels of volumes; a join pairs every volume of the smaller image within a tolerance, or raises.

    Parameters
    ----------
    array : array_like, shape (n,)
        Labels: numbers or strings.
    dim : hashable
        Dimension.
    tolerance : float
        Largest difference of labels that are one; 0 for labels that must be identical.
    coord_dtype : dtype, optional
        Data type of the coordinate.
    fastpath : bool
        Whether `array` is a pandas index already.

    See Also
    --------
    TagIndex.for_dim : chooses the tolerance.
    """

    tolerance: float

    def __init__(
        self,
        array: Any,
        dim: Hashable,
        tolerance: float = 0.0,
        coord_dtype: Any = None,
        *,
        fastpath: bool = False,
    ) -> None:
        super().__init__(array, dim, coord_dtype, fastpath=fastpath)
        self.tolerance = tolerance

    @classmethod
    def for_dim(cls, dim: Hashable, labels: ArrayLike) -> TagIndex:
        """Return an index of these labels with the tolerance that is right for the dim.

        ==================  =========================================================
        dim                 tolerance
        ==================  =========================================================
        time, triggertime   a quarter of the smallest step; 1e-3 s for a single label
        te                  1e-3 ms
        fa                  1e-3 degree
        b                   1 s/mm2
        other numbers       1e-6 of the largest
        integers, strings   none: labels are identical or differ
        ==================  =========================================================

        None exceeds a quarter of the smallest step between labels, so that a label cannot match two: b-values
        that differ by 0.001 to tell volumes apart stay apart.

        Examples
        --------
        >>> TagIndex.for_dim("time", [0, 2.5, 5]).tolerance
        0.625
        """
        values = np.asarray(labels)
        return cls(values, dim, _tolerance_for(dim, values), values.dtype)

    @classmethod
    def from_variables(cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]) -> TagIndex:
        """Return an index of one coordinate, with the tolerance of its dim."""
        plain = PandasIndex.from_variables(variables, options=options)
        tolerance = _tolerance_for(plain.dim, plain.index.to_numpy())
        return cls(plain.index, plain.dim, tolerance, plain.coord_dtype, fastpath=True)

    def _own(self) -> dict[str, Any]:
        return {"tolerance": self.tolerance}

    def _tolerance_with(self, other: Self) -> float:
        return min(self.tolerance, other.tolerance)

    @classmethod
    def concat(
        cls,
        indexes: Sequence[Self],
        dim: Hashable,
        positions: Iterable[Iterable[int]] | None = None,
    ) -> Self:
        """Return the labels of all, one after another, with the tolerance of the strictest."""
        labels = cls._concat_indexes(indexes, dim, positions)
        known = [index.tolerance for index in indexes if isinstance(index, cls)]
        tolerance = min([*known, _largest_tolerance(labels.to_numpy())])
        return cls(labels, dim, tolerance, np.result_type(*(index.coord_dtype for index in indexes)))

    def join(self, other: Self, how: str = "inner") -> Self:
        """Return the labels of the paired volumes (inner) or of all volumes (outer), as they are written here.

        Raises
        ------
        PairingError
            If a volume of the smaller image has no partner in the other, or more than one.
        """
        matched, count = self._matches(other)
        back, back_count = other._matches(self)
        unique = max(count.max(initial=0), back_count.max(initial=0)) <= 1
        dtype = np.result_type(self.coord_dtype, other.coord_dtype)
        if how == "outer" and unique:
            joined = self._union(other, back >= 0)
        elif unique and ((matched >= 0).all() or (back >= 0).all()):
            joined = self._like(self.index[matched >= 0])
        else:
            raise self._no_pairs(other)
        return type(self)(joined.index, self.dim, self._tolerance_with(other), dtype)

    def reindex_like(self, other: Self, method: str | None = None, tolerance: Any = None) -> dict[Hashable, Any]:
        """Return for each label of `other` the number of the one here, -1 for none; PairingError if several match."""
        if method is not None or tolerance is not None:
            return super().reindex_like(other, method=method, tolerance=tolerance)
        found, count = other._matches(self)
        if count.max(initial=0) > 1:
            raise self._no_pairs(other)
        return {self.dim: found}

    def _no_pairs(self, other: Self) -> PairingError:
        dim, tolerance = self.dim, self._tolerance_with(other)
        unit = f" {self._unit}" if self._unit else ""
        return PairingError(
            f"volumes do not pair along {dim}: {format_labels(self.index)} against {format_labels(other.index)}"
            f"{unit}, equal within {tolerance:.3g}; say which belong together, with "
            f"b.assign_coords({dim}=a.{dim}) if there are as many, else after b.isel({dim}=...)"
        )

    def __repr__(self) -> str:
        return f"TagIndex({self.index!r}, tolerance={self.tolerance:g})"

    def _repr_inline_(self, max_width: int) -> str:
        return f"TagIndex ({self._span()}, equal within {self.tolerance:.3g})"


def _tolerance_for(dim: Hashable, labels: NDArray[Any]) -> float:
    """Return the tolerance for labels of a dim, as TagIndex.for_dim says."""
    if labels.dtype.kind != "f":
        numeric = labels.dtype.kind in "iu" and dim in ("time", "triggertime", *_TOLERANCES)
        if not numeric:
            return 0.0
    limit = _largest_tolerance(labels)
    if dim in ("time", "triggertime"):
        return limit if np.isfinite(limit) else _LONE_TIME
    largest = np.abs(labels[np.isfinite(labels)]).max(initial=0.0)
    return float(min(_TOLERANCES.get(str(dim), _ROUNDING * largest), limit))


def _largest_tolerance(labels: NDArray[Any]) -> float:
    """Return a quarter of the smallest step between labels, inf if there is none."""
    if labels.dtype.kind not in "iuf":
        return np.inf
    steps = np.diff(np.unique(labels[np.isfinite(labels)]).astype(float))
    return float(steps.min() * _STEP_PART) if steps.size else np.inf


def _mean_step(positions: pd.Index) -> float:
    """Return the mean distance of positions, inf if there is none; the smallest may be that of two at one place."""
    step = np.ptp(positions.to_numpy(float)) / (positions.size - 1) if positions.size > 1 else 0.0
    return float(step) or np.inf


def _close(a: pd.Index, b: pd.Index, tolerance: float) -> bool:
    """Return whether labels of equal number are the same, one by one."""
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        return bool(np.allclose(a.to_numpy(float), b.to_numpy(float), rtol=0, atol=tolerance, equal_nan=True))
    return bool(a.equals(b))


def _match(wanted: pd.Index, have: pd.Index, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return for each label wanted the number of the nearest in `have`, or -1, and how many match."""
    if wanted.dtype.kind in "iuf" and have.dtype.kind in "iuf":
        a, b = wanted.to_numpy(float), have.to_numpy(float)
        order = np.argsort(b, kind="stable")
        b = b[order]
        low = np.searchsorted(b, a - tolerance, "left")
        count = np.searchsorted(b, a + tolerance, "right") - low
        if not b.size:
            return np.full(a.size, -1), count
        right = np.searchsorted(b, a).clip(0, b.size - 1)
        left = (right - 1).clip(0)
        nearest = np.where(np.abs(b[left] - a) <= np.abs(b[right] - a), left, right)
        return np.where(count > 0, order[nearest], -1), count
    places: dict[Any, list[int]] = {}
    for number, label in enumerate(have):
        places.setdefault(label, []).append(number)
    found = [places.get(label, [-1]) for label in wanted]
    return (
        np.array([numbers[0] for numbers in found], dtype=np.intp),
        np.array([len(numbers) * (numbers[0] >= 0) for numbers in found], dtype=np.intp),
    )


def _whole_within(positions: pd.Index, matched: NDArray[np.bool_], other: pd.Index) -> bool:
    """Return whether all positions inside the span of the other are matched there, and at least one is."""
    low, high = other.min() - POSITION_TOLERANCE, other.max() + POSITION_TOLERANCE
    inside = (positions >= low) & (positions <= high)
    return bool(inside.any() and matched[inside].all())


def format_labels(labels: pd.Index) -> str:
    """Return labels as they are written in a message, long lists with their middle left out."""
    shown = [f"{label:.6g}" if isinstance(label, float) else f"{label}" for label in labels]
    if len(shown) > 6:
        shown = [*shown[:3], "...", *shown[-2:]]
    return f"[{', '.join(shown)}] ({labels.size})"
