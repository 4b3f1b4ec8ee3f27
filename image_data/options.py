"""Options that commands share, and that a program of one's own can have, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import xarray as xr

__all__ = ["add_network_options", "add_output_options", "add_reading_options", "add_reporting_options", "open_from"]


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how images are opened; `open_from` opens with them."""
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--order",
        default="auto",
        metavar="DIMS",
        help="none, auto, time, triggertime, b, bvector, dti, fa, te, image_type, a DICOM keyword or tag, also with "
        "a name, ti=InversionTime, or several: time,te (default: %(default)s)",
    )
    group.add_argument(
        *("--series", "--input_serinsuid", "--input-serinsuid"),
        metavar="WHICH",
        help="SeriesInstanceUID, SeriesNumber or SeriesDescription of the one series that is taken",
    )
    group.add_argument("--merge", action="store_true", help="read all series as one, where a scanner split them")
    group.add_argument(
        *("--input_acquisition", "--input-acquisition"), metavar="N", help="take images of this AcquisitionNumber only"
    )
    group.add_argument(*("--input_echo", "--input-echo"), metavar="N", help="take images of this echo number only")
    group.add_argument(
        *("--input_options", "--input-options"),
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the reader: missing=fill, duplicates=first, rescale=false, or of another format's, variable=A",
    )
    group.add_argument("--input-format", metavar="FORMAT", help="format of the input, where its name does not say it")
    group.add_argument(
        "--template", metavar="SOURCE", help="take patient, study and header from this image, or from 'phantom'"
    )
    group.add_argument(
        "--geometry", metavar="SOURCE", help="take place, frame of reference and tag values from this image"
    )
    group.add_argument("--extend", action="store_true", help="allow more slices or volumes than the template has")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is written."""
    group = parser.add_argument_group("writing")
    group.add_argument(
        "--of",
        action="append",
        metavar="FORMAT",
        help="dicom (default), nifti, itk, mat, raster, netcdf, zarr; several times writes each, to OUT with %%p in it "
        "for the format, or to a folder of its name in OUT",
    )
    group.add_argument("--sernum", type=int, metavar="N", help="SeriesNumber of the result")
    group.add_argument("--serdes", metavar="TEXT", help="SeriesDescription of the result")
    group.add_argument("--imagetype", metavar="A,B", help="ImageType of the result, such as DERIVED,SECONDARY,MAP")
    group.add_argument("--frame", metavar="UID", help="FrameOfReferenceUID of the result")
    group.add_argument("--dtype", metavar="TYPE", help="type of the values, such as float32 or uint8, if it holds them")
    group.add_argument(
        "--window",
        metavar="C,W",
        help="window of pictures: centre and width, such as -600,1500, 'auto', or 'none' for 16 bits as they are",
    )
    group.add_argument(
        "--resample", action="store_true", help="interpolate uneven slices for formats that need even ones"
    )
    group.add_argument(*("--keep-uid", "--keep_uid"), action="store_true", help="keep the UIDs of an unchanged series")
    group.add_argument("--force", "--overwrite", action="store_true", help="replace what is there")


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a PACS is spoken with."""
    group = parser.add_argument_group("network")
    group.add_argument("--aet", metavar="TITLE", help="our own AE title (default: $IMAGEDATA_XR_AET, or IMAGEDATA)")
    group.add_argument("--timeout", type=float, metavar="S", help="seconds that the other side may take (30)")
    group.add_argument("--ca", metavar="FILE", help="TLS: certificates that are trusted (default: the system's)")
    group.add_argument("--cert", metavar="FILE", help="TLS: our own certificate")
    group.add_argument("--key", metavar="FILE", help="TLS: the key of our certificate")


def add_reporting_options(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Add the options that say what is told."""
    group = parser.add_argument_group("reporting")
    if json:
        group.add_argument("--json", action="store_true", help="one JSON document on standard output")
    group.add_argument("-v", "--verbose", action="count", default=0, help="tell more; -vv shows where an error arose")
    group.add_argument("-q", "--quiet", action="store_true", help="tell errors only")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all of these options to a parser of one's own."""
    add_reading_options(parser)
    add_output_options(parser)
    add_reporting_options(parser)


def open_from(arguments: argparse.Namespace, source: Any) -> xr.DataArray:
    """Return the image of a source, opened as the reading options say."""
    from imagedata_xr.commands.opening import open_one

    return open_one(arguments, source)
