"""The command ``image_data``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``image_data``."""
    made = argparse.ArgumentParser(
        prog="image_data",
        description="Read a DICOM series, sort it, and write it as a new one: same patient and place, own identity.",
        epilog="Exit status: 0 when everything was written; 1 when anything was not (then nothing is left at OUT); "
        "2 for wrong usage; 130 when interrupted.",
    )
    made.add_argument("out", metavar="OUT", help="folder to write; it must not exist yet, or be empty")
    made.add_argument("sources", metavar="IN", nargs="+", help="folder or file to read; several are read as one heap")
    made.add_argument(
        "--order",
        default="auto",
        metavar="DIMS",
        help="none, auto, time, triggertime, b, bvector, dti, fa, te, image_type, a DICOM keyword or tag, or several: "
        "time,te (default: %(default)s)",
    )
    made.add_argument("--series", metavar="WHICH", help="UID, number or description, where several series are there")
    made.add_argument("--sernum", type=int, metavar="N", help="SeriesNumber of the result")
    made.add_argument("--serdes", metavar="TEXT", help="SeriesDescription of the result")
    made.add_argument("--overwrite", action="store_true", help="replace OUT, if it holds nothing but DICOM files")
    made.add_argument("--version", action="version", version=_version())
    return made


def _version() -> str:
    from imagedata_xr import __version__

    return f"imagedata_xr {__version__}"


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status of ``image_data`` with these arguments."""
    arguments = parser().parse_args(argv)
    try:
        _convert(arguments)
    except (OSError, ValueError) as err:
        print(f"image_data: error: {err}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("image_data: interrupted, nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _convert(arguments: argparse.Namespace) -> None:
    """Open, set what was asked for, write."""
    import warnings

    from tqdm import tqdm

    from imagedata_xr.api import open_series
    from imagedata_xr.dicom.write import write_dicom

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        image = open_series(arguments.sources, arguments.order, series=arguments.series)
        changed = {"SeriesNumber": arguments.sernum, "SeriesDescription": arguments.serdes}
        image = image.assign_attrs({name: value for name, value in changed.items() if value is not None})
        # A bar on a terminal, nothing in a log.
        with tqdm(desc=str(arguments.out), unit="frame", disable=None, file=sys.stderr) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            written = write_dicom(image, arguments.out, overwrite=arguments.overwrite, progress=show)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"image_data: warning: {warning.message}", file=sys.stderr)
    dims = ", ".join(f"{name}: {size}" for name, size in image.sizes.items())
    print(f"{arguments.out}: {len(written)} files, {dims}")
