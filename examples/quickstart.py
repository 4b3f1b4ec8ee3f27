"""Mean of two dynamic series, volume by volume, as a new DICOM series.

On the phantom patient, or on two folders of DICOM of one protocol::

    python examples/quickstart.py
    python examples/quickstart.py dirA dirB
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw, ImageFont

import imagedata_xr as ixr


def main() -> None:
    """Do the main job and say what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="two folders of DICOM (default: the phantom's)")
    parser.add_argument("--output", type=Path, default=Path("quickstart_output"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    output = arguments.output
    if arguments.folders:
        if len(arguments.folders) != 2:
            parser.error(f"two folders are wanted, got {len(arguments.folders)}")
        dir_a, dir_b = arguments.folders
    else:
        phantom = output / "phantom"
        if not phantom.exists():
            ixr.sample.write_patient(phantom)
        dir_a, dir_b = phantom / "dynamic_1", phantom / "dynamic_2"

    a = ixr.open_series(dir_a, "time")
    b = ixr.open_series(dir_b, "time")
    c = (a + b) / 2
    files = c.dicom.write(output / "dirMean", overwrite=True)

    for name, folder, image in (("a", dir_a, a), ("b", dir_b, b)):
        print(f"opened {name} = {folder}: {describe(image)}")
    print(f"c = (a + b) / 2 pairs volumes up to {largest_gap(a, b):.4g} s apart")
    print(f"wrote  {len(files)} files to {output / 'dirMean'}")

    again = ixr.open_series(output / "dirMean", "time")
    error = float(abs(again - c).max())
    same_place = np.abs(again.dicom.affine - a.dicom.affine).max() < 1e-3
    print(f"read back: {describe(again)}")
    print(f"largest difference {error:.2g}, values up to {float(c.max()):.4g}; at the same place: {same_place}")
    affine = np.array2string(again.dicom.affine, precision=3, suppress_small=True)
    print(f"affine (slice, row, col) -> mm, LPS+:\n{affine}")

    picture = output / "quickstart.png"
    montage({"a": a, "b": b, "(a + b) / 2": c}).save(picture)
    print(f"drew   {picture}")


def describe(image: xr.DataArray) -> str:
    """Return dims, sizes, type, and spacing of an image."""
    sizes = ", ".join(f"{dim} {size}" for dim, size in image.sizes.items())
    spacing = " x ".join(f"{mm:.4g}" for mm in image.dicom.spacing)
    return f"{sizes}; {image.dtype}; {spacing} mm"


def largest_gap(a: xr.DataArray, b: xr.DataArray) -> float:
    """Return how far apart [s] the times of corresponding volumes are."""
    return float(np.abs(a["time"].values - b["time"].values).max())


def montage(images: dict[str, xr.DataArray], columns: int = 6) -> Image.Image:
    """Return the middle slice of some volumes, a row an image, all in the same window."""
    rows = []
    for image in images.values():
        volumes = np.unique(np.linspace(0, image.sizes["time"] - 1, columns).round().astype(int))
        rows.append(image.isel(slice=image.sizes["slice"] // 2, time=volumes).compute())
    low, high = np.percentile(np.concatenate([row.values.ravel() for row in rows]), (1, 99.8))
    _, mm_row, mm_col = rows[0].dicom.spacing
    width = 160
    height = round(width * rows[0].sizes["row"] * mm_row / (rows[0].sizes["col"] * mm_col))
    canvas = Image.new("L", (width * columns, height * len(rows)))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for y, (label, row) in enumerate(zip(images, rows, strict=True)):
        for x, frame in enumerate(row):
            grey = np.clip((frame.values - low) / (high - low), 0, 1) * 255
            tile = Image.fromarray(grey.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
            canvas.paste(tile, (x * width, y * height))
            time = f"{float(frame['time']):.5g} s"
            draw.text((x * width + 4, (y + 1) * height - 16), time, fill=200, font=font)
        draw.text((4, y * height + 2), label, fill=255, font=font)
    return canvas


if __name__ == "__main__":
    main()
