"""Compare what formats make of real series with other programs: ``python benchmarks/formats.py DATA``.

``DATA`` has a folder a case, with the DICOM files in ``dicom``. Every series that opens is written in each format and
read again, by this package and by a program of others. Distances are those of the corners of the volume [mm];
differences those of voxels at the same place in the patient, as a fraction of the largest value. dcm2niix converts the
files itself, and is compared where it makes one image of them. The table is Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from cases import dcm2niix_program  # beside this file

import imagedata_xr as ixr

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

ORDERS: dict[str, dict[str, Any]] = {
    "si_fa_te_4d": {"order": "fa,te", "merge": True},
    "dup_slices": {"duplicates": "first"},
    "si_te_time_5d": {"order": "time,te"},
    **{case: {"order": "time"} for case in ("ph_time_4d", "ge_time_trigger", "ge_time_notags")},
}


class Worst(NamedTuple):
    """The worst of several comparisons."""

    cases: int = 0
    distance: float = 0.0
    difference: float = 0.0

    def with_(self, distance: float, difference: float) -> Worst:
        """Return the worst of these and another."""
        return Worst(self.cases + 1, max(self.distance, distance), max(self.difference, difference))

    def __str__(self) -> str:
        return f"{self.cases}: {self.distance:.1e} mm, {self.difference:.1e}" if self.cases else "none"


def compare(mine: np.ndarray, affine: np.ndarray, its: np.ndarray, its_affine: np.ndarray) -> tuple[float, float]:
    """Return distance of corners [mm] and largest difference of voxels, of images with the spatial axes first.

    The other may have its axes in another order and turned round; where they do not fit at all, both are infinite.
    """
    between = np.linalg.inv(affine) @ its_affine
    turn = between[:3, :3].round()
    if not np.allclose(np.abs(turn).sum(0), 1) or not np.allclose(np.abs(turn).sum(1), 1):
        return np.inf, np.inf
    corners = np.array(list(itertools.product(*((0, n - 1) for n in its.shape[:3]))), float)
    there = corners @ between[:3, :3].T + between[:3, 3]
    size = np.linalg.norm(affine[:3, :3], axis=0)
    distance = float(np.linalg.norm((there - there.round()) * size, axis=1).max())
    voxels = np.stack(np.meshgrid(*map(np.arange, its.shape[:3]), indexing="ij"), -1).reshape(-1, 3)
    at = (voxels @ between[:3, :3].T + between[:3, 3]).round().astype(int)
    if (at < 0).any() or (at >= np.array(mine.shape[:3])).any():
        return np.inf, np.inf
    a = mine[tuple(at.T)].reshape(len(at), -1).astype(float)
    b = its[tuple(voxels.T)].reshape(len(at), -1).astype(float)
    if a.shape != b.shape:
        return distance, np.inf
    return distance, float(np.abs(a - b).max() / max(1.0, np.abs(a).max()))


def spatial_first(image: xr.DataArray, sizes: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return values (col, row, slice, ...) and affine (col, row, slice) to RAS+, as NIfTI has them.

    Tag dims are in the order in which they have the sizes of another's axes, if these are given.
    """
    tags = [dim for dim in image.dims if dim not in ("slice", "row", "col")]
    fits = [turn for turn in itertools.permutations(tags) if tuple(image.sizes[dim] for dim in turn) == sizes]
    values = image.transpose("col", "row", "slice", *(fits[0] if fits else tags)).values
    return values, image.dicom.affine_ras[:, [2, 1, 0, 3]]


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return values and affine to RAS+ of the NIfTI file in a folder."""
    import nibabel as nib

    (file,) = [p for p in path.iterdir() if p.name.endswith((".nii", ".nii.gz"))]
    loaded: Any = nib.load(file)
    return np.asanyarray(loaded.dataobj), loaded.affine


def by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return values (col, row, slice, ...) and affine to RAS+ of the file in a folder."""
    import SimpleITK as sitk

    (file,) = [p for p in path.iterdir() if p.suffix in (".mha", ".nrrd", ".gz", ".nii")]
    loaded = sitk.ReadImage(str(file))
    values = sitk.GetArrayFromImage(loaded).T
    n = loaded.GetDimension()
    affine = np.eye(4)
    direction = np.array(loaded.GetDirection()).reshape(n, n)[:3, :3]
    affine[:3, :3] = direction * np.array(loaded.GetSpacing())[:3]
    affine[:3, 3] = loaded.GetOrigin()[:3]
    return values, np.diag([-1, -1, 1, 1]) @ affine


FORMATS: dict[str, tuple[str, Callable[[Path], tuple[np.ndarray, np.ndarray]] | None, str]] = {
    "NIfTI-1 .nii.gz": ("image.nii.gz", by_nibabel, "nibabel"),
    "NIfTI-1 .nii": ("image.nii", by_simpleitk, "SimpleITK"),
    "MetaImage .mha": ("image.mha", by_simpleitk, "SimpleITK"),
    "NRRD .nrrd": ("image.nrrd", by_simpleitk, "SimpleITK"),
    "MAT .mat": ("image.mat", None, ""),
    "netCDF .nc": ("image.nc", None, ""),
    "Zarr .zarr": ("image.zarr", None, ""),
    "DICOM": ("image", None, ""),
}


def flattened(values: np.ndarray) -> np.ndarray:
    """Return values with all axes after the third as one."""
    return values.reshape(*values.shape[:3], -1) if values.ndim > 3 else values[..., np.newaxis]


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--verbose", action="store_true", help="tell of each case on standard error")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    worst: dict[tuple[str, str], Worst] = defaultdict(Worst)
    refused: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in sorted(options.data.iterdir()):
        source = folder / "dicom"
        if not source.is_dir():
            continue
        try:
            image = ixr.open_series(source, **ORDERS.get(folder.name, {})).load()
        except ValueError:
            continue  # no one image
        work = Path(tempfile.mkdtemp())
        try:
            for name, (target, peer, peer_name) in FORMATS.items():
                note = (name, worst, options.verbose, folder.name)
                try:
                    (work / name).mkdir()
                    ixr.write(image, work / name / target)
                except (ValueError, OSError) as err:
                    refused[name][folder.name] = str(err).splitlines()[0][:60]
                    continue
                order = [str(d) for d in image.dims if d not in ("slice", "row", "col", "rgb")]
                again = {"order": ",".join(order) or "none"} if name == "DICOM" else {}
                back = ixr.open_series(work / name / target, **again)
                if (
                    "ImageOrientationPatient" in image.attrs
                    and image.dicom.is_evenly_spaced
                    and "rgb" not in image.dims
                ):
                    mine = spatial_first(image)
                    record("ours", *note, *compare(*mine, *spatial_first(back.transpose(*image.dims))))
                    if peer is not None:
                        try:
                            values, affine = peer(work / name)
                        except RuntimeError as err:
                            refused[f"{name} by {peer_name}"][folder.name] = str(err).splitlines()[-1][:60]
                        else:
                            same = spatial_first(image, tuple(n for n in values.shape[3:] if n > 1))
                            found = compare(flattened(same[0]), same[1], flattened(values), affine)
                            record(peer_name, *note, *found)
                    if name == "NIfTI-1 .nii.gz":
                        others = by_dcm2niix(source, work / "dcm2niix")
                        if others is not None:
                            mine_too = by_nibabel(work / name)
                            found = compare(flattened(mine_too[0]), mine_too[1], flattened(others[0]), others[1])
                            record("dcm2niix", *note, *found)
                else:
                    same = back.dims == image.dims and np.array_equal(back.values, image.values)
                    record("ours", *note, 0.0, 0.0 if same else np.inf)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print("| format | read again: cases, worst corner, worst voxel | peer | the same for it | refused |")
    print("|---|---|---|---|---|")
    for name, (_, _, peer_name) in FORMATS.items():
        peers = [other for other in (peer_name, "dcm2niix") if (name, other) in worst]
        shown = "; ".join(f"{worst[name, other]}" for other in peers)
        print(f"| {name} | {worst[name, 'ours']} | {', '.join(peers)} | {shown} | {', '.join(refused[name])} |")
    for name, reasons in refused.items():
        for case, reason in reasons.items():
            print(f"refused {name} {case}: {reason}", file=sys.stderr)


def record(
    who: str, name: str, worst: dict[Any, Worst], verbose: bool, case: str, distance: float, difference: float
) -> None:
    """Note one comparison."""
    if verbose and (distance > 1e-2 or difference > 1e-4):
        print(f"{case}: {name}, {who}: {distance:.3g} mm, {difference:.3g}", file=sys.stderr)
    worst[name, who] = worst[name, who].with_(distance, difference)


def by_dcm2niix(source: Path, out: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what dcm2niix makes of a folder, None where that is not one image."""
    out.mkdir()
    subprocess.run([dcm2niix_program(), "-z", "n", "-o", str(out), str(source)], capture_output=True, check=False)
    return by_nibabel(out) if len(list(out.glob("*.nii"))) == 1 else None


if __name__ == "__main__":
    main()
