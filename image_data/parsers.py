"""One parser a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from image_data.options import add_network_options, add_output_options, add_reading_options, add_reporting_options

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMANDS", "parser_of"]

STATUS = (
    "Exit status: 0 all done; 1 unexpected error; 2 wrong usage; 3 no image found; 4 cannot be sorted, or geometry is "
    "inconsistent; 5 partly done; 6 output exists or cannot be written; 7 network refused or failed; 130 interrupted; "
    "143 ended by SIGTERM."
)
IN_HELP = "folder, file or archive to read"


class Command(NamedTuple):
    """A command: what it does, examples, what adds its arguments, and the module that does it."""

    does: str
    examples: str
    add: Callable[[argparse.ArgumentParser], None]
    module: str


def _one_or_more(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        msg = f"{text} was given, 1 or more is wanted"
        raise argparse.ArgumentTypeError(msg)
    return number


def parser_of(command: str, program: str = "image_data") -> argparse.ArgumentParser:
    """Return the parser of a command, as `program` or one of its aliases."""
    found = COMMANDS[command]
    is_alias = program != "image_data"
    examples = found.examples
    if is_alias:
        examples = examples.replace(f"image_data {command}", program)
    elif command == "convert":
        names = ", ".join(COMMANDS)
        examples += (
            f"\n\ncommands, each with its own --help: {names}\nwithout one of these as its first word it converts"
        )
    made = argparse.ArgumentParser(
        prog=program if is_alias or command == "convert" else f"{program} {command}",
        description=found.does,
        epilog=f"examples:\n{examples}\n\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add(made)
    made.add_argument("-V", "--version", action=_Version, help="show the version and leave")
    return made


class _Version(argparse.Action):
    """Prints the version, which is looked up only now."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"imagedata_xr {version('imagedata_xr')}")
        parser.exit()


def _inputs(parser: argparse.ArgumentParser, what: str = IN_HELP) -> None:
    parser.add_argument("sources", metavar="IN", nargs="+", help=what)


def _many(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--dry-run", action="store_true", help="tell what would be done; write nothing")
    parser.add_argument(
        "--jobs", type=_one_or_more, default=1, metavar="N", help="series at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="do only what an earlier run into the same folder has not done; the folder keeps a record of it; of "
        "--input_options there are missing= and duplicates=",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="dask cluster that does the work, such as tcp://host:8786, as with --resume",
    )
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="skip",
        help="of several series: stop at the first that fails, or do the others (default: %(default)s)",
    )


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "out",
        metavar="OUT",
        help="folder or file to write, which must not exist yet; or PACS: dicom://host:port/AETITLE",
    )
    _inputs(
        parser,
        "folder, file or archive to read; several are read as one heap, and each series goes to a folder of its own",
    )
    add_reading_options(parser)
    add_output_options(parser)
    _many(parser)
    add_reporting_options(parser)


def _info(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    add_reporting_options(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    parser.add_argument("-r", "--recursive", action="store_true", help="list the files of each series, too")
    add_reporting_options(parser)


def _show(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    group = parser.add_argument_group("viewing")
    group.add_argument(
        "--plane", choices=["slice", "row", "col", "all"], default="slice", help="what is stepped through"
    )
    group.add_argument("--window", metavar="C,W", help="first window: centre and width, such as -600,1500")
    group.add_argument("--link", action="store_true", help="series go to the same place together")
    group.add_argument("--hide-identity", action="store_true", help="leave out who the patient is")
    group.add_argument("--save", metavar="FILE.html", help="write a page with all frames in it, and open nothing")
    group.add_argument("--force", "--overwrite", action="store_true", help="replace what is there")
    group.add_argument("--port", type=int, metavar="N", help="of the server, which is for this machine only")
    group.add_argument("--no-browser", action="store_true", help="tell the address, and open no browser")
    add_reading_options(parser)
    add_reporting_options(parser, json=False)


def _stats(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    parser.add_argument(
        "--mask", metavar="SOURCE", help="image at the same place: voxels where it is neither 0 nor NaN count"
    )
    parser.add_argument("--bash", action="store_true", help="lines that a shell can evaluate: min=... max=...")
    add_reading_options(parser)
    add_reporting_options(parser)


def _calc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder or file to write; it must not exist yet")
    parser.add_argument(
        "expression",
        metavar="EXPRESSION",
        help="such as '(a + b) / 2', with a, b, c ... for the inputs; one that begins with - after a space: ' -a'",
    )
    parser.add_argument("sources", metavar="IN", nargs="*", help="folder, file or archive; one for each letter")
    add_reading_options(parser)
    add_output_options(parser)
    add_reporting_options(parser)


def _tags(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    parser.add_argument(
        "-k", "--keys", metavar="NAMES", help="show these elements of every file: EchoTime,SeriesNumber"
    )
    parser.add_argument(
        "--all", action="store_true", help="show the header of every file, not of the first of a series"
    )
    parser.add_argument("--csv", action="store_true", help="with --keys: comma-separated values, for a spreadsheet")
    add_reporting_options(parser)


def _timeline(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    parser.add_argument("-1", "--one", dest="one", action="store_true", help="one time a line")
    parser.add_argument(
        "--order", default="time", metavar="DIMS", help="dims, time among them, such as time,te (default: %(default)s)"
    )
    add_reporting_options(parser)


def _montage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="picture to write: .png, .jpg, .tif or .gif")
    _inputs(parser)
    parser.add_argument(
        "--volume", type=int, default=0, metavar="N", help="number of the volume (default: %(default)s)"
    )
    parser.add_argument("--columns", type=int, metavar="N", help="pictures in a row")
    parser.add_argument(
        "--window",
        metavar="C,W",
        help="centre and width, such as -600,1500; else the header's, else that of the values",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")
    add_reading_options(parser)
    add_reporting_options(parser, json=False)


def _sort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder to copy to, outside of IN; it may exist")
    _inputs(parser)
    parser.add_argument("-n", "--dry-run", action="store_true", help="tell what would be done; write nothing")
    add_reporting_options(parser)


def _validate(parser: argparse.ArgumentParser) -> None:
    _inputs(parser)
    add_reporting_options(parser)


def _pacs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pacs", metavar="PACS", help="dicom://host:port/AETITLE, or dicom+tls://host:port/AETITLE")


def _echo(parser: argparse.ArgumentParser) -> None:
    _pacs(parser)
    add_network_options(parser)
    add_reporting_options(parser)


def _query(parser: argparse.ArgumentParser) -> None:
    _pacs(parser)
    parser.add_argument(
        "--level", choices=("patient", "study", "series", "image"), default="study", help="default: %(default)s"
    )
    parser.add_argument(
        *("-k", "--key-value"),
        dest="keys",
        action="append",
        default=[],
        metavar="KEYWORD=VALUE",
        help="what to look for; * and ? stand for any letters; without a value the element is shown",
    )
    add_network_options(parser)
    add_reporting_options(parser)


def _send(parser: argparse.ArgumentParser) -> None:
    _pacs(parser)
    _inputs(parser, "DICOM file, folder or archive to send as it is")
    parser.add_argument(
        "--jobs", type=_one_or_more, default=1, metavar="N", help="associations at a time (%(default)s)"
    )
    parser.add_argument("--commit", action="store_true", help="ask the PACS to commit itself to keep them")
    add_network_options(parser)
    add_reporting_options(parser)


def _receive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder to receive into")
    parser.add_argument("--port", type=int, default=11112, metavar="N", help="port to listen on (%(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (%(default)s: this machine only)"
    )
    parser.add_argument(
        "--calling", action="append", default=[], metavar="TITLE", help="AE title that may call; may be given again"
    )
    parser.add_argument(
        "--tls", action="store_true", help="TLS, with --cert, --key, and --ca for certificates of clients"
    )
    parser.add_argument("--associations", type=int, default=10, metavar="N", help="how many at a time (%(default)s)")
    parser.add_argument("--largest-total", type=int, metavar="MIB", help="MiB that all instances may have")
    parser.add_argument("--count", type=_one_or_more, metavar="N", help="end when so many have come")
    add_network_options(parser)
    add_reporting_options(parser)


COMMANDS = {
    "convert": Command(
        "Read images, sort them, and write them: DICOM as a new series of the same patient at the same place, or "
        "another format.",
        "  image_data --of nifti niftiDir dicomDir\n"
        "  image_data --of dicom --template dicomDir dicomResult niftiResult\n"
        "  image_data --order time,te --sernum 1004 --serdes 'Processed data' dicomResult dicomDir\n"
        "  image_data convert --jobs 2 --of nifti niftiDir wholeStudy.zip",
        _convert,
        "convert",
    ),
    "info": Command(
        "Tell what series are there.", "  image_data info dicomDir\n  image_data info --json a.zip", _info, "info"
    ),
    "list": Command("List series, and their files.", "  image_data list -r dicomDir", _list, "info"),
    "show": Command(
        "Look at images in the browser, until its page is closed or q is pressed there.",
        "  image_data show dirA dirB\n  image_data show --save brain.html --hide-identity dicomDir",
        _show,
        "show",
    ),
    "stats": Command(
        "Tell smallest, largest, mean, standard deviation and median of the values of each series.",
        "  image_data stats dicomDir\n  image_data stats --mask maskDir dicomDir",
        _stats,
        "stats",
    ),
    "calc": Command(
        "Compute with images and write the result.",
        "  image_data calc dirMean '(a + b) / 2' dirA dirB\n"
        "  image_data calc late 'mean(a, \"time\")' dynamic\n"
        "  image_data calc --of nifti ratio 'where(b > 0, a / b, 0)' dirA dirB",
        _calc,
        "calc",
    ),
    "tags": Command(
        "Show header elements of DICOM files, also of those without pixels, such as reports and structure sets; pixels "
        "are left out.",
        "  image_data tags file.dcm\n  image_data tags -k EchoTime,InstanceNumber dicomDir\n"
        "  image_data tags -k PatientID,SeriesDescription --csv dicomDir > headers.csv",
        _tags,
        "tags",
    ),
    "timeline": Command("Tell the times of a series [s].", "  image_data timeline dicomDir", _timeline, "timeline"),
    "montage": Command(
        "Draw all slices of a volume side by side.",
        "  image_data montage brain.png dicomDir --volume 3",
        _montage,
        "montage",
    ),
    "sort": Command(
        "Copy DICOM files, also those without pixels, to folders of patient, study and series. A folder is named after "
        "one of these and a digest of what tells it from others. No file is lost: where two would have one name, the "
        "second gets a new one, and what is not copied is named.",
        "  image_data sort sorted heap1 heap2.zip",
        _sort,
        "sort",
    ),
    "validate": Command(
        "Tell what is wrong with each series and file: what keeps it from being opened, and what a reader could get "
        "wrong. Compressed frames are decoded, each of them.",
        "  image_data validate dicomDir",
        _validate,
        "validate",
    ),
    "send": Command(
        "Send DICOM files to a PACS as they are, and tell what became of each.",
        "  image_data send dicom://pacs:104/ARCHIVE dicomDir\n"
        "  image_data send --jobs 4 --commit dicom+tls://pacs/ARCHIVE study.zip",
        _send,
        "send",
    ),
    "echo": Command("Tell whether a PACS answers.", "  image_data echo dicom://pacs:104/ARCHIVE", _echo, "echo"),
    "query": Command(
        "Tell what a PACS has.",
        "  image_data query dicom://pacs:104/ARCHIVE -k PatientID=P1\n"
        "  image_data query --level series -k StudyDate=20260101-20260131 -k Modality=MR --json dicom://pacs:104/ARCHIVE",
        _query,
        "query",
    ),
    "receive": Command(
        "Receive instances that a PACS or scanner sends.",
        "  image_data receive inbox\n"
        "  image_data receive --host 0.0.0.0 --port 104 --aet WARD --calling SCANNER1 --calling ARCHIVE inbox",
        _receive,
        "receive",
    ),
}
