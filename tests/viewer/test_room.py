"""What a viewer tells has room: in small windows and viewports, and of many outlines with long names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import imagedata_xr as ixr
from imagedata_xr.viewer.page import html_of
from imagedata_xr.viewer.roi import Roi
from tests.viewer.browsers import Screen, looking_at

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

pytestmark = pytest.mark.browser

LONG = "hippocampus of the left hemisphere as it was drawn by the second reader, part {}"
CURVES = "Bokeh.index.find_one(viewer.args.curveFigure)"


def outlines(count: int, name: str = LONG) -> list[Roi]:
    return [Roi(name.format(n), 2, ((n, 3), (n, 9), (n + 6, 9))) for n in range(count)]


def test_curves_are_below_the_pictures_where_there_is_no_room_beside_them(image: xr.DataArray, page: Any) -> None:
    page.set_viewport_size({"width": 1300, "height": 900})  # three pictures fill it
    with looking_at(image.dicom.view(plane="all", show=False), page) as screen:
        place = f"{CURVES}.el.getBoundingClientRect()"
        frame = screen.frame()
        assert screen.js(f"{place}.right") <= 1300
        assert screen.js(f"{place}.top") >= frame["top"] + frame["height"]
        page.set_viewport_size({"width": 1700, "height": 900})
        screen.settle()
        assert screen.js(f"{place}.top") < frame["top"] + frame["height"]


def test_many_outlines_with_long_names_leave_room_for_their_curves(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False, rois=outlines(30)), page) as screen:
        screen.until("viewer.args.curves.data.ys.length === 30")
        screen.settle()
        names = screen.js("[...viewer.args.curves.data.name]")
        assert len(set(names)) == 30
        assert all(name.startswith("hippocampus of") and name.endswith(f"t {n}") for n, name in enumerate(names))
        legend = "Bokeh.index.find_one(viewer.args.curveFigure.above.find((one) => one.type === 'Legend')).bbox"
        assert screen.js(f"{legend}.left") >= 0
        assert screen.js(f"{legend}.right") <= screen.js("viewer.args.curveFigure.width")
        assert screen.js(f"{CURVES}.frame.bbox.height") > 200


def test_names_that_begin_and_end_alike_have_lines_of_their_own(image: xr.DataArray, page: Any) -> None:
    rois = outlines(3, "hippocampus of the left hemisphere, drawn {} times, by the second reader of the study")
    with looking_at(image.dicom.view(show=False, rois=rois), page) as screen:
        screen.until("viewer.args.curves.data.ys.length === 3")
        assert len(set(screen.js("[...viewer.args.curves.data.name]"))) == 3


def test_of_a_long_name_the_middle_goes_and_not_what_is_measured(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False, rois=outlines(1)), page) as screen:
        label = "viewer.viewports[0].svg.querySelector('text')"
        screen.until(f"{label}?.textContent.includes(' n ')")
        assert "…" in screen.js(f"{label}.textContent")
        frame = screen.frame()
        assert screen.js(f"{label}.getBoundingClientRect().left") >= frame["left"]
        assert screen.js(f"{label}.getBoundingClientRect().right") <= frame["left"] + frame["width"]


def test_the_help_of_a_small_viewport_is_scrolled(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False, size=200), page) as screen:
        screen.press("?", viewport=0)
        text = "viewer.viewports[0].box.querySelector('[data-help]')"
        assert screen.js(f"{text}.scrollHeight > {text}.clientHeight")
        page.mouse.wheel(0, 2000)
        screen.until(f"{text}.scrollTop + {text}.clientHeight >= {text}.scrollHeight - 1")
        assert screen.place()[:2] == [0, 2]
        frame = screen.frame()
        page.mouse.click(frame["left"] + 50, frame["top"] + 50)
        assert screen.js(f"{text} === null")
        screen.press("ArrowUp")
        assert screen.place()[:2] == [0, 3]


def test_a_page_that_python_has_left_says_so(image: xr.DataArray, page: Any, tmp_path: Path) -> None:
    # As in a notebook that was exported: it has the frames that were shown first.
    exported = tmp_path / "exported.html"
    exported.write_text(html_of(image.dicom.view(show=False).page()), encoding="utf-8")
    screen = Screen(page).open(exported.as_uri())
    screen.press("ArrowUp", viewport=0)
    assert screen.texts()["notice"] == "loading  slice 4"
    screen.js("viewer.panels[0].frames.askAgain()")  # as it does after some seconds
    screen.js("viewer.panels[0].frames.askAgain()")
    screen.settle()
    assert screen.texts()["notice"] == "loading  slice 4\nno answer from Python: it is busy, or has ended"
    screen.press("ArrowDown")
    assert screen.texts()["notice"] == ""
    page.close()


def test_where_a_slice_lies_is_one_line_and_leaves_the_letters_free(shared_data: Path, page: Any) -> None:
    image = ixr.open_series(shared_data / "ph_time_4d" / "dicom", "time")
    with looking_at(image.dicom.view(show=False, size=300), page) as screen:
        box = "viewer.viewports[0].texts.{}.getBoundingClientRect()"
        assert screen.texts()["lowerLeft"].startswith("slice 18/35 at 24.7 mm\nW ")
        assert screen.js(box.format("lowerLeft") + ".height") < 33  # two lines
        assert screen.js(box.format("lowerLeft") + ".right") <= screen.js(box.format("bottom") + ".left")
