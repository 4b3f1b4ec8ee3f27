"""Make docs/images/viewer.png anew, of the functional series of studyforrest.org, with Debian's chromium.

::

    python -m tests.viewer.picture SERIES
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imagedata_xr as ixr
from tests.viewer.browsers import chromium, looking_at

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "viewer.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("series", type=Path)
    image = ixr.open_series(parser.parse_args().series, "time")
    viewer = image.dicom.view(plane="all", size=300, hide_identity=True, show=False)
    size = {"width": 1290, "height": 375}
    with chromium() as browser, looking_at(viewer, browser.new_page(viewport=size)) as screen:
        screen.press("e", viewport=0)
        screen.drag(screen.at(25, 25), screen.at(46, 40))
        screen.press("e")
        screen.page.mouse.click(*screen.at(42, 53))
        screen.until("viewer.args.curves.data.ys.length === 2 && viewer.viewports.every((one) => one.drawn)")
        screen.settle()
        screen.page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
