"""Compare speed and memory with other tools, side by side in one run: ``python benchmarks/run.py``.

Every case (see `cases.py`) runs in a process of its own. The cases of one group take turns, round by round; a ratio
is the median of the ratios within the rounds, so that other work on the machine weighs on both sides alike. All files
are in the cache of the system. The table is Markdown, on standard output; progress goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
PACKAGES = (
    "imagedata_xr",
    "xarray",
    "numpy",
    "dask",
    "pydicom",
    "imagedata",
    "SimpleITK",
    "dcm2niix",
    "highdicom",
    "dicomsdl",
)
SHORT = frozenset(("import", "open", "growth", "slice", "nii", "enhanced"))
"""Groups with work of some hundredths of a second, of which a machine makes more or less from one run to the next, or
that writes one large file."""
SHORT_ROUNDS = 7
CODECS = ("jpegls", "jpeg2000", "jpegll")
FULL = {
    "dyn": (60, 40, 256, 256),
    "ct": (1, 600, 512, 512),
    **{f"dyn{n}x": (60 * n, 40, 256, 256) for n in (2, 4, 8)},
    "enhanced": (40, 50, 256, 256),
    **dict.fromkeys(CODECS, (1, 200, 512, 512)),
}
SMALL = {
    "dyn": (6, 10, 128, 128),
    "ct": (1, 60, 128, 128),
    **{f"dyn{n}x": (6 * n, 10, 128, 128) for n in (2, 4, 8)},
    "enhanced": (4, 5, 128, 128),
    **dict.fromkeys(CODECS, (1, 20, 128, 128)),
}

Result = dict[str, Any]
Shapes = dict[str, tuple[int, int, int, int]]


class Quantity(NamedTuple):
    """What is read off a result, and its unit."""

    of: Callable[[Result], float]
    unit: str = "s"


def _seconds(*parts: str) -> Quantity:
    return Quantity(lambda r: sum(r["seconds"][p] for p in parts or r["seconds"]))


TIME = _seconds()
PROCESS = Quantity(lambda r: float(r["process"]))
"""Of the whole process: start, imports, work, check."""
MEMORY = Quantity(lambda r: (r["peak"] - r["base"]) / 1e6, "MB")
CPU = Quantity(lambda r: float(sum(r["cpu"].values())), "s CPU")
SIZE = Quantity(lambda r: r["bytes"] / 1e6, "MB")
OPENED = Quantity(lambda r: float(r["opened"]), "")


class Other(NamedTuple):
    """What ours is compared with."""

    name: str
    case: str = ""
    limit: float | None = None
    """What ours / its must not exceed."""
    quantity: Quantity | None = None
    """None: that of the row."""
    series: str = ""
    """"": that of the row."""
    amount: float | None = None
    """A fixed number, where it is no case."""


class Row(NamedTuple):
    """One quantity of ours, and those it is compared with."""

    work: str
    series: str
    case: str
    quantity: Quantity
    others: list[Other]


def _groups(shapes: Shapes) -> dict[str, list[Row]]:
    """Return the rows of the table; the cases of one group run in turns."""
    files = {name: s[0] * s[1] for name, s in shapes.items()}
    pixels = {name: 2 * s[0] * s[1] * s[2] * s[3] / 1e6 for name, s in shapes.items()}
    ours = "imagedata_xr"
    loads = [
        Other("SimpleITK ImageSeriesReader", "load: SimpleITK", 1 / 12),
        Other("dicomsdl", "load: dicomsdl", 1 / 2),
        Other("pydicom dcmread, stack", "load: pydicom"),
        Other("imagedata Series", "load: imagedata"),
    ]
    peaks = [other._replace(limit=None) for other in loads]
    return {
        "import": [
            Row(f"import {ours}", "dyn", f"import: {ours}", TIME, [
                Other("import xarray, dask.array, pydicom", "import: xarray, dask.array, pydicom", 1.15),
                Other("import xarray", "import: xarray"),
                Other("import imagedata", "import: imagedata"),
            ]),
        ],
        "open": [
            Row(f"open {files['dyn']} files", "dyn", f"open: {ours}", TIME, [
                Other("pydicom dcmread(stop_before_pixels=True)", "open: pydicom", 1 / 15),
                Other("dcm2niix -b o", "open: dcm2niix", 1 / 2.5),
                Other("imagedata Series(dir, 'time'), which loads", "load: imagedata"),
                Other("SimpleITK GetGDCMSeriesFileNames", "open: SimpleITK"),
            ]),
            Row("open them again, with an index", "dyn", f"reopen: {ours}", TIME, [
                Other("ours, without", f"open: {ours}", 1 / 3),
                Other("pydicom dcmread(stop_before_pixels=True)", "open: pydicom"),
            ]),
            Row("open their virtual store", "dyn", f"virtual: {ours}", TIME, [
                Other("50 ms", limit=1, amount=0.05),
            ]),
            Row("the whole process, imports included", "dyn", f"open: {ours}", PROCESS, [
                Other("pydicom dcmread(stop_before_pixels=True)", "open: pydicom"),
                Other("imagedata Series(dir, 'time'), which loads", "load: imagedata"),
            ]),
        ],
        "growth": [
            Row(f"open {files[big]} files", big, f"open: {ours}", TIME, [
                Other(f"ours, {files['dyn']} files", f"open: {ours}", 1.15 * n, series="dyn"),
            ])
            for n, big in ((2, "dyn2x"), (4, "dyn4x"), (8, "dyn8x"))
        ],
        "load": [
            Row(f"open and load {files['dyn']} × {shapes['dyn'][2]}×{shapes['dyn'][3]}", "dyn", f"load: {ours}", TIME, [
                Other("the same bytes into one array", "load: the bytes"), *loads,
            ]),
            Row("of it, loading", "dyn", f"load: {ours}", _seconds("load"), [
                Other("the same bytes into one array", "load: the bytes", 2.5, quantity=TIME),
            ]),
            Row("memory for it, over the imports", "dyn", f"load: {ours}", MEMORY, [
                Other("the array", limit=1.1, amount=pixels["dyn"]), *peaks,
            ]),
        ],
        "load ct": [
            Row(f"open and load CT, {files['ct']} × {shapes['ct'][2]}×{shapes['ct'][3]}", "ct", f"load: {ours}", TIME, [
                Other("the same bytes into one array", "load: the bytes"), *loads[:3],
            ]),
            Row("of it, loading", "ct", f"load: {ours}", _seconds("load"), [
                Other("the same bytes into one array", "load: the bytes", 2.5, quantity=TIME),
            ]),
            Row("memory for it, over the imports", "ct", f"load: {ours}", MEMORY, [
                Other("the array", limit=1.1, amount=pixels["ct"]), *peaks[:3],
            ]),
        ],
        "slice": [
            Row(f"one slice of {files['dyn']} files, from nothing", "dyn", f"slice: {ours}", TIME, [
                Other("ours, opening alone", f"slice: {ours}", 1.15, quantity=_seconds("open")),
                Other("SimpleITK: names, then one file", "slice: SimpleITK"),
                Other("pydicom: headers, then one file", "slice: pydicom"),
                Other("imagedata Series, which loads", "load: imagedata"),
            ]),
            Row("files opened for its pixels", "dyn", f"slice: {ours}", OPENED, [
                Other("one", limit=1, amount=1),
            ]),
        ],
        "write": [
            Row(f"{files['dyn']} files to a new series, folder to folder", "dyn", f"write: {ours}", TIME, [
                Other("the same bytes to as many files", "write: the bytes"),
                Other("pydicom dcmread, save_as", "write: pydicom", 1 / 3),
                Other("imagedata Series, write", "write: imagedata", 1 / 10),
            ]),
            Row("of it, writing", "dyn", f"write: {ours}", _seconds("write"), [
                Other("the same bytes to as many files", "write: the bytes", 1.6, quantity=_seconds("write")),
                Other("pydicom save_as", "write: pydicom", quantity=_seconds("write")),
                Other("imagedata write", "write: imagedata", quantity=_seconds("write")),
            ]),
            Row("write twice the values (int16, in memory)", "dyn", f"write twice: {ours}", _seconds("write"), [
                Other("the same bytes to as many files", "write: the bytes", 1.6, quantity=_seconds("write")),
                Other("pydicom save_as", "write: pydicom", 1 / 3, quantity=_seconds("write")),
            ]),
            Row("write a difference (int16, in memory)", "dyn", f"write a difference: {ours}", _seconds("write"), [
                Other("the same bytes to as many files", "write: the bytes", 1.6, quantity=_seconds("write")),
            ]),
            Row("write a computed image (float32, in memory)", "dyn", f"write a result: {ours}", _seconds("write"), [
                Other("the same bytes to as many files", "write: the bytes", quantity=_seconds("write")),
            ]),
            Row("memory for writing from chunks, over the imports", "dyn", f"write chunks: {ours}", MEMORY, [
                Other("200 MB", limit=1, amount=200),
            ]),
        ],
        "nii": [
            Row(f"{files['dyn']} files to .nii", "dyn", f"nii: {ours}", TIME, [
                Other("dcm2niix", "nii: dcm2niix", 1 / 3),
            ]),
            Row("memory for it, over the imports", "dyn", f"nii: {ours}", MEMORY, [
                Other("200 MB", limit=1, amount=200),
            ]),
        ],
        "nii.gz": [
            Row(f"{files['dyn']} files to .nii.gz", "dyn", f"nii.gz: {ours}", TIME, [
                Other("dcm2niix -z i", "nii.gz: dcm2niix", 1 / 5),
            ]),
            Row("size of it", "dyn", f"nii.gz: {ours}", SIZE, [
                Other("dcm2niix -z i", "nii.gz: dcm2niix", 1.06),
            ]),
        ],
        "enhanced": [
            Row(f"open one file of {files['enhanced']} frames", "enhanced", f"open: {ours}", TIME, [
                Other("pydicom, and the place of each frame", "parse: pydicom", 1 / 8),
                Other("highdicom, lazily", "open: highdicom"),
            ]),
            Row("one frame of it, from nothing", "enhanced", f"slice: {ours}", TIME, [
                Other("ours, opening alone", f"slice: {ours}", 1.2, quantity=_seconds("open")),
            ]),
            Row("open and load it", "enhanced", f"load: {ours}", TIME, [
                Other("the same bytes into one array", "load: the bytes", 2.5),
            ]),
        ],
        "compressed": [
            row
            for codec in CODECS
            for row in (
                Row(f"open and load {files[codec]} × 512×512, {codec}", codec, f"load compressed: {ours}", CPU, [
                    Other("imagecodecs, the frames alone", "decode: imagecodecs", 1.1),
                    Other("imagecodecs in as many threads", "decode in threads: imagecodecs"),
                ]),
                Row("the same, on the wall", codec, f"load compressed: {ours}", TIME, [
                    Other("imagecodecs, the frames alone", "decode: imagecodecs"),
                    Other("imagecodecs in as many threads", "decode in threads: imagecodecs"),
                ]),
            )
        ],
        "mean": [
            Row("mean over time with dask, from nothing", "dyn", f"mean: {ours}", TIME, [
                Other("NumPy in memory, times 3, and the load", "mean: NumPy", 1, quantity=Quantity(
                    lambda r: 3 * r["seconds"]["mean"] + r["seconds"]["load"])),
            ]),
        ],
    }  # fmt: skip


def _run(case: str, series: Path, folder: Path) -> Result:
    """Return what one case measured, in a new process."""
    _read(series)
    out = folder / "out"
    if case.endswith("dcm2niix"):
        out.mkdir()
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, HERE / "cases.py", case, series, out], stdout=subprocess.PIPE, text=True, cwd=folder
        )
        seconds = time.perf_counter() - start
    finally:
        _set_aside(out)
    if done.returncode:
        return {"failed": True}
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return {**result, "process": seconds - result.get("aside", 0)}


def _set_aside(out: Path) -> None:
    """Take the bytes from what a case wrote, and leave the files until the end.

    ext4 passes over the inodes of files deleted just now, one by one, whenever it makes another: thousands that are
    deleted between the cases would make each file of the next cost a millisecond.
    """
    if not out.exists():
        return
    for file in out.rglob("*"):
        if file.is_file():
            os.truncate(file, 0)
    out.rename(tempfile.mkdtemp(prefix="done-", dir=out.parent))


def _measure(
    rows: list[Row], series: dict[str, Path], rounds: int, folder: Path
) -> dict[tuple[str, str], list[Result]]:
    """Return the results of each case and series, round by round."""
    wanted = [(row.case, row.series) for row in rows]
    wanted += [(o.case, o.series or row.series) for row in rows for o in row.others if o.case]
    results: dict[tuple[str, str], list[Result]] = {key: [] for key in wanted}
    for number in range(rounds):
        keys = list(results)
        turn = number % len(keys)
        for case, name in keys[turn:] + keys[:turn]:
            result = _run(case, series[name], folder)
            results[case, name].append(result)
            seconds = sum(result.get("seconds", {}).values())
            print(f"round {number + 1}: {case} ({name}): {seconds:.2f} s", file=sys.stderr, flush=True)
    return results


def _lines(row: Row, results: dict[tuple[str, str], list[Result]], *, judged: bool) -> list[str]:
    """Return the lines of the table that one row makes."""
    ours, lines = results[row.case, row.series], []
    what = row.work
    if problem := _problem(ours):
        return [f"| {what} | {problem} | | | | | |"]
    mine = [row.quantity.of(r) for r in ours]
    for other in row.others:
        wanted = other.limit if judged else None
        limit = "" if wanted is None else f"≤ {wanted:.3g}"
        quantity = other.quantity or row.quantity
        if other.amount is not None:
            its = [other.amount] * len(mine)
        else:
            theirs = results[other.case, other.series or row.series]
            if problem := _problem(theirs):
                lines.append(f"| {what} | {_number(mine, row.quantity)} | {other.name} | {problem} | | {limit} | |")
                what = ""
                continue
            its = [quantity.of(r) for r in theirs]
        ratio = median(m / max(i, 1e-9) for m, i in zip(mine, its, strict=True))
        verdict = "" if wanted is None else "ok" if ratio <= wanted else "**not ok**"
        shown = f"{_number(mine, row.quantity)} | {other.name} | {_number(its, quantity)}"
        lines.append(f"| {what} | {shown} | {ratio:.3g} | {limit} | {verdict} |")
        what = ""
    return lines


def _problem(results: list[Result]) -> str:
    if any("absent" in r for r in results):
        return "not installed"
    return "failed" if any("failed" in r for r in results) else ""


def _number(values: list[float], quantity: Quantity) -> str:
    value = median(values)
    return f"{value:.3g} {quantity.unit}".strip() if value < 100 else f"{value:.0f} {quantity.unit}".strip()


def _prepare(data: Path, shapes: Shapes) -> dict[str, Path]:
    """Return the folders of the series, made where they are absent."""
    series = {}
    for name, shape in shapes.items():
        folder = series[name] = data / f"{name}-{'x'.join(map(str, shape))}"
        if not folder.exists():
            print(f"making {folder}", file=sys.stderr, flush=True)
            command = [sys.executable, str(HERE / "make_series.py"), str(folder)]
            command += {"ct": ["--modality", "CT"], "enhanced": ["--enhanced"]}.get(name, [])
            command += ["--codec", name] if name in CODECS else []
            subprocess.run([*command, "--shape", *map(str, shape)], check=True, stdout=sys.stderr)
    return series


def _read(folder: Path) -> None:
    """Read the files of a series: a system may take out of its cache what nobody asked for in minutes."""
    room = bytearray(1 << 20)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(room):
                    pass


def _versions() -> str:
    """Return what was compared, and on what; nothing that names the machine or its user."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    return f"{', '.join(found)}.\n{machine}, load {os.getloadavg()[0]:.1f} at the start"


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small series, too small to be judged: to see that all runs"
    )
    parser.add_argument(
        "--rounds", type=int, help="how often each case runs (5; 2 when quick); short ones at least 7 times"
    )
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir(), "imagedata_xr-bench"),
        help="folder for the series, about 6 GB, which stay there for the next run (%(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 5)
    shapes = SMALL if options.quick else FULL
    about = _versions()
    series = _prepare(options.data.resolve(), shapes)
    print(f"{about}; {rounds} rounds{', small series' if options.quick else ''}.\n")
    print("| work | ours | compared with | its | ours / its | wanted | |")
    print("|---|---|---|---|---|---|---|", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(dir=options.data) as folder:
        for name, rows in _groups(shapes).items():
            often = max(SHORT_ROUNDS, rounds) if name in SHORT and not options.quick else rounds
            results = _measure(rows, series, often, Path(folder))
            for row in rows:
                failed |= bool(_problem(results[row.case, row.series]))
                print("\n".join(_lines(row, results, judged=not options.quick)), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
