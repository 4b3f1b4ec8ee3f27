"""DICOM to NIfTI, through another program, and back to DICOM of the same patient at the same place.

Without a folder of yours it takes the phantom::

    python examples/round_trip.py [DICOM] --output OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

import imagedata_xr as ixr


def other_program(source: Path, target: Path) -> None:
    """Do what any tool may: turn the voxels another way, and change the values."""
    image = nib.as_closest_canonical(nib.load(source))
    values = np.asanyarray(image.dataobj).astype(np.float32)
    nib.save(nib.Nifti1Image(np.sqrt(values.clip(0)), image.affine, image.header), target)


def main() -> None:
    """Go there and back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, help="folder with one series")
    parser.add_argument("--output", type=Path, default=Path("round_trip_output"), help="folder to make")
    options = parser.parse_args()
    source = options.source or ixr.sample.write_patient(options.output / "phantom") / "dynamic_1"
    original = ixr.open_series(source)
    original.dicom.write(options.output / "nifti", format="nifti")
    other_program(options.output / "nifti" / "image.nii.gz", options.output / "result.nii.gz")
    result = ixr.open_series(options.output / "result.nii.gz", template=original)
    files = result.assign_attrs(SeriesDescription="square root").dicom.write(options.output / "dicom")
    print(f"wrote {len(files)} files of the same patient: {result.attrs['PatientID'] == original.attrs['PatientID']}")
    print(f"at the same place: {result.dicom.geometry_equal(original)}")
    difference = float(abs(result - np.sqrt(original.clip(0))).max())
    print(f"largest difference to the square root of the original: {difference:.2g}")


if __name__ == "__main__":
    main()
