"""Outlines drawn in a real browser: each is kept where it was drawn, and keys act on what is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from imagedata_xr.viewer.roi import Roi, save_rois
from imagedata_xr.viewer.serve import Serving
from tests.viewer.browsers import Screen, looking_at

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser


def clicks(screen: Screen, *corners: tuple[float, float], viewport: int = 0) -> None:
    """Click on (row, col) one after the other."""
    for corner in corners:
        screen.page.mouse.click(*screen.at(*corner, viewport))
    screen.settle()


def kept(screen: Screen) -> list[tuple[int, int]]:
    """Return series and slice of each outline that the page has."""
    return [(roi["series"], roi["slice"]) for roi in screen.js("viewer.drawing.rois")]


def test_a_polygon_becomes_a_mask(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        screen.press("g", viewport=0)
        corners = [(5, 4), (6, 20), (25, 12)]
        for corner in corners:
            screen.page.mouse.click(*screen.at(*corner))
        screen.press("Enter", "Escape")
        screen.until("JSON.parse(viewer.model.rois).length === 1")
        page.wait_for_timeout(200)
        (roi,) = viewer.rois[0]
        assert (roi.name, roi.kind, roi.slice, roi.tags) == ("ROI 1", "polygon", 2, None)
        assert np.array(roi.vertices) == pytest.approx(np.array(corners), abs=0.1)
        values = image[0, 2].values[viewer.roi_mask().values[2]]
        assert f"n {values.size}" in screen.js("viewer.viewports[0].svg.textContent")
        assert f"{values.mean():.4g} ±" in screen.js("viewer.viewports[0].svg.textContent")
        # Its mean along time is in the figure.
        ys = "viewer.args.curves.data.ys"
        screen.until(f"{ys}.length === 1 && [...{ys}[0]].every(Number.isFinite)")
        assert screen.js(f"[...{ys}[0]]") == pytest.approx(viewer.roi_statistics()["mean"].values[0])
        # A vertex is dragged, then the whole by its edge.
        screen.drag(screen.at(*corners[0]), screen.at(9, 8))
        assert np.array(screen.js("viewer.drawing.rois[0].vertices[0]")) == pytest.approx([9, 8], abs=0.15)
        middle = np.add(corners[1], corners[2]) / 2
        screen.drag(screen.at(*middle), screen.at(*(middle + 2)))
        moved = np.array(screen.js("viewer.drawing.rois[0].vertices"))
        assert moved == pytest.approx(np.array([(11, 10), (8, 22), (27, 14)]), abs=0.3)
        # Copied to the next slice, named, removed.
        screen.press("ArrowUp", "ArrowDown", "c")
        assert screen.place()[1] == 1
        assert [roi["slice"] for roi in screen.js("viewer.drawing.rois")] == [2, 1]
        screen.page.mouse.click(*screen.at(*moved[1]))
        screen.js("(viewer.name.value = 'liver', viewer.name.onchange())")
        screen.press("a", viewport=0)
        page.wait_for_timeout(200)
        assert [(roi.name, roi.tags) for roi in viewer.rois[0]] == [("ROI 1", None), ("liver", (0,))]
        screen.press("Delete")
        page.wait_for_timeout(200)
        assert [roi.name for roi in viewer.rois[0]] == ["ROI 1"]


def test_freehand_and_ellipse(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False, roi_per_tag=True)
    with looking_at(viewer, page) as screen:
        screen.press("ArrowRight", "e", viewport=0)
        screen.drag(screen.at(5, 4), screen.at(25, 14))
        screen.press("f")
        center, radius = np.array([20.0, 20.0]), 6.0
        angles = np.linspace(0, 2 * np.pi, 40)
        points = [screen.at(*(center + radius * np.array([np.cos(a), np.sin(a)]))) for a in angles]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
        screen.press("Escape")
        page.wait_for_timeout(200)
        ellipse, outline = viewer.rois[0]
        assert (ellipse.kind, outline.kind, ellipse.tags) == ("ellipse", "polygon", (1,))
        rows, cols = np.ogrid[:40, :30]
        wanted = ((rows - 15) / 10) ** 2 + ((cols - 9) / 5) ** 2 < 1
        assert abs(int(ellipse.inside((40, 30)).sum()) - int(wanted.sum())) <= 8
        circle = (rows - 20) ** 2 + (cols - 20) ** 2 < 36
        assert (outline.inside((40, 30)) ^ circle).sum() <= 8
        assert viewer.roi_mask().dims == image.dims
    shown = image.dicom.view(show=False, rois=viewer.rois[0])
    with looking_at(shown, page.context.browser.new_page()) as screen:
        assert screen.js("viewer.viewports[0].svg.querySelectorAll('polygon').length") == 0  # it is of the other time
        screen.press("ArrowRight", viewport=0)
        assert screen.js("viewer.viewports[0].svg.querySelectorAll('polygon').length") == 2


def test_drawn_outlines_stay_in_a_page_that_is_loaded_again(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        screen.press("e", "ArrowUp", viewport=0)
        screen.drag(screen.at(5, 4), screen.at(25, 14))
        page.wait_for_timeout(200)
        screen.open(viewer.show(browser=False))
        assert len(screen.js("viewer.drawing.rois")) == 1
        assert screen.place()[1] == 3


CORNERS = ((5, 4), (6, 20), (25, 12))


def test_an_outline_stays_on_the_slice_on_which_it_was_begun(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        screen.press("g", viewport=0)
        clicks(screen, *CORNERS)
        screen.press("ArrowUp", "Enter")
        assert kept(screen) == []  # it is not seen, so nothing ends it
        assert "unfinished outline on slice 3" in screen.texts()["notice"]
        clicks(screen, (30, 20))
        screen.press("Backspace")
        assert len(screen.js("viewer.drawing.begun.points")) == 3  # neither more corners, from another slice, nor fewer
        screen.press("ArrowDown")
        assert screen.texts()["notice"] == ""
        clicks(screen, (28, 5))
        screen.press("ArrowRight", "Enter")  # it holds for all times
        assert kept(screen) == [(0, 2)]
        page.wait_for_timeout(200)
        (roi,) = viewer.rois[0]
        assert np.array(roi.vertices) == pytest.approx(np.array([*CORNERS, (28, 5)]), abs=0.1)
        # By hand, and the wheel turned meanwhile: there is no slice that it is of.
        screen.press("f")
        page.mouse.move(*screen.at(5, 5))
        page.mouse.down()
        page.mouse.move(*screen.at(5, 20), steps=4)
        page.mouse.wheel(0, -100)
        page.mouse.move(*screen.at(20, 20), steps=4)
        page.mouse.up()
        assert kept(screen) == [(0, 2)]
        assert screen.js("viewer.drawing.begun") is None


def test_an_outline_stays_on_the_series_on_which_it_was_begun(image: xr.DataArray, page: Any) -> None:
    named = image.assign_attrs(SeriesDescription="a description that is as long as such ones are")
    viewer = named.dicom.view([image + 1, image + 2], show=False, viewports=1, roi_per_tag=True)
    with looking_at(viewer, page) as screen:
        screen.press("g", viewport=0)
        clicks(screen, *CORNERS)
        screen.press("PageDown", "Enter")
        assert kept(screen) == []
        page.mouse.dblclick(*screen.at(30, 20))
        assert kept(screen) == []
        assert "unfinished outline on slice 3  time[0]: 0 s of" in screen.texts()["notice"]
        lines = "const all = document.createRange(); all.selectNodeContents(viewer.viewports[0].texts.notice)"
        width = screen.js(f"(() => {{ {lines}; return all.getBoundingClientRect().width }})()")
        assert width < screen.frame()["width"]
        screen.press("PageUp", "ArrowRight", "Enter")
        assert kept(screen) == []  # another time
        assert "unfinished outline on slice 3  time[0]: 0 s; Esc drops it" in screen.texts()["notice"]
        screen.press("ArrowLeft", "Enter")
        assert kept(screen) == [(0, 2)]
        assert screen.js("viewer.drawing.rois[0].tags") == [0]
        # One that is dragged is not taken along to the next series.
        before = screen.js("viewer.drawing.rois[0].vertices")
        screen.press("Escape")
        page.mouse.move(*screen.at(*CORNERS[0]))
        page.mouse.down()
        screen.press("PageDown")
        page.mouse.move(*screen.at(15, 15))
        page.mouse.up()
        assert screen.js("viewer.drawing.rois[0].vertices") == before


def test_keys_change_the_outline_that_is_picked_where_it_is_seen(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(image + 1, show=False)
    with looking_at(viewer, page) as screen:
        screen.press("g", viewport=0)
        clicks(screen, *CORNERS)
        screen.press("Enter", "Escape")
        assert screen.js("viewer.drawing.picked") == -1
        clicks(screen, CORNERS[0])
        name = "viewer.name.style.display === ''"
        assert screen.js(name)
        screen.press("ArrowUp", "a", "Delete")
        assert screen.js("viewer.drawing.rois.map((roi) => roi.tags)") == [None]
        assert not screen.js(name)
        screen.press("ArrowDown")
        assert screen.js(name)
        screen.press("a", "Delete", viewport=1)  # the mouse is in the other series
        assert screen.js("viewer.drawing.rois.map((roi) => roi.tags)") == [None]
        screen.press("p", "a", "Delete", viewport=0)  # nor is it seen in another plane
        assert screen.js("viewer.drawing.rois.map((roi) => roi.tags)") == [None]
        screen.press("p", "p", "ArrowRight", "a")
        assert screen.js("viewer.drawing.rois.map((roi) => roi.tags)") == [[1]]
        screen.press("ArrowRight", "a", "Delete")  # at this time it is not
        assert screen.js("viewer.drawing.rois.map((roi) => roi.tags)") == [[1]]
        screen.press("ArrowLeft", "Delete")
        assert kept(screen) == []


def test_c_copies_in_the_direction_of_the_last_slice(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.press("g", viewport=0)
        clicks(screen, *CORNERS)
        screen.press("Enter", "ArrowRight", "ArrowLeft", "c")  # times gone through are no direction
        assert kept(screen) == [(0, 2), (0, 3)]


def test_outlines_given_in_python_stay_when_others_are_drawn(image: xr.DataArray, page: Any, tmp_path: Path) -> None:
    given = Roi("given", np.int64(2), ((30, 5), (30, 12), (36, 12)))
    later, loaded = replace(given, name="later"), replace(given, name="loaded", slice=1)
    viewer = image.dicom.view(image + 1, show=False, rois=[given])
    save_rois([loaded], image, tmp_path / "rois.json")
    with looking_at(viewer, page) as screen:
        assert kept(screen) == [(0, 2)]
        viewer.rois[0].append(later)  # a page cannot know of it yet
        screen.press("g", viewport=1)
        clicks(screen, *CORNERS, viewport=1)
        screen.press("Enter", "Escape")
        screen.until("viewer.drawing.rois.length === 3")
        assert [[roi.name for roi in of] for of in viewer.rois] == [["given", "later"], ["ROI 1"]]
        viewer.load_rois(tmp_path / "rois.json")
        screen.until("viewer.drawing.rois.length === 4")  # is seen at once
        # One is dragged: the others stay as they are, and so does the order.
        screen.drag(screen.at(*CORNERS[0], 1), screen.at(9, 8, 1))
        page.wait_for_timeout(200)
        assert viewer.rois[0] == [given, later, loaded]
        assert viewer.rois[1][0].vertices[0] == pytest.approx((9, 8), abs=0.2)
        # What is taken away in Python is gone, too, also where it is picked.
        viewer.rois = [[later], []]
        screen.until("viewer.drawing.rois.length === 1")
        screen.press("Delete", viewport=1)
        page.wait_for_timeout(200)
        assert viewer.rois == [[later], []]
        with pytest.raises(ValueError, match="1 lists of outlines were given for 2 images"):
            viewer.rois = [[later]]
        screen.page.mouse.click(*screen.at(30, 5))
        screen.press("Delete")
    assert viewer.rois == [[], []]  # also what was done last, before the page was closed
    viewer.rois = [[given], []]  # of no page any more
    assert viewer.rois == [[given], []]


def test_two_pages_keep_what_either_draws(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    # Sessions of their own, as in a server of one's own; and two pages of one session.
    servers = [Serving(viewer.app), Serving(viewer.app)]
    browser = page.context.browser
    screens = [
        Screen(browser.new_page(viewport={"width": 1300, "height": 1000})).open(servers[n].url) for n in (0, 1, 1)
    ]
    try:
        for n, screen in enumerate(screens):
            screen.press("g", viewport=0)
            clicks(screen, *(np.add(CORNERS, 2 * n)))
            screen.press("Enter", "Escape")
            for other in screens:
                other.until(f"viewer.drawing.rois.length === {n + 1}")
        assert [roi.name for roi in viewer.rois[0]] == ["ROI 1", "ROI 2", "ROI 3"]
        screens[2].page.close()
        screens[0].page.mouse.click(*screens[0].at(*np.add(CORNERS[1], 4)))
        screens[0].press("Delete")
        screens[1].until("viewer.drawing.rois.length === 2")
        assert [roi.name for roi in viewer.rois[0]] == ["ROI 1", "ROI 2"]
        assert [error for screen in screens for error in screen.errors] == []
    finally:
        for screen in screens:
            screen.page.close()
        for server in servers:
            server.stop()


def test_what_is_typed_stays_text_where_the_mouse_passes_by(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        screen.press("g", viewport=0)
        clicks(screen, *CORNERS)
        screen.press("Enter", "Escape")
        clicks(screen, CORNERS[1])
        name = page.locator("input[title='name of the region']")
        name.fill("")
        name.press_sequentially("qu")
        page.mouse.move(*screen.at(2, 2))
        page.mouse.move(*screen.at(9, 9))
        page.keyboard.type("eer i")
        page.keyboard.press("Enter")
        screen.until("viewer.drawing.rois[0].name === 'queer i'")
        page.wait_for_timeout(200)
        assert [roi.name for roi in viewer.rois[0]] == ["queer i"]
        assert not screen.js("viewer.panels[0].state.inverted")
        clicks(screen, CORNERS[1])  # from now on keys are those of the picture
        screen.press("i")
        assert screen.js("viewer.panels[0].state.inverted")


def square(name: str, first: int, last: int, **changes: Any) -> Roi:
    """Return the outline of the voxels from first to last, either way, on slice 2."""
    low, high = first - 0.5, last + 0.5
    return Roi(name, **{"slice": 2, "vertices": ((low, low), (low, high), (high, high), (high, low)), **changes})


def test_outlines_of_any_shape_are_measured_as_in_python(page: Any) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(50, 3, (1, 60, 50)).astype(np.float32)
    values[0, rng.integers(0, 60, 99), rng.integers(0, 50, 99)] = np.nan
    image = xr.DataArray(values, dims=("slice", "row", "col"))
    corners = [rng.uniform(-10, 70, (count, 2)) for count in (3, 4, 5, 9, 30, 3, 3, 3, 3)]
    corners += [
        rng.integers(0, 50, (count, 2)).astype(float) for count in (3, 4, 12, 3, 3)
    ]  # through centres of pixels
    kinds: list[Any] = ["polygon"] * 5 + ["ellipse"] * 4 + ["polygon"] * 3 + ["ellipse"] * 2
    rois = [
        Roi(f"<{n}>", 0, tuple(map(tuple, points)), kind)
        for n, (kind, points) in enumerate(zip(kinds, corners, strict=True))
    ]
    with looking_at(image.dicom.view(show=False, rois=rois), page) as screen:
        told = screen.js("[...viewer.viewports[0].svg.querySelectorAll('text')].map((one) => one.textContent)")
        wanted = image.dicom.roi_statistics(rois)
        assert len(told) == len(rois)
        for text in told:
            one = wanted.sel(roi=text.split(">")[0] + ">")
            mean, _, std, _, count = text.split(">")[1].split() or [0] * 5
            assert int(count) == one["count"]
            if count:
                assert (float(mean), float(std)) == pytest.approx((float(one["mean"]), float(one["std"])), rel=6e-3)


def test_an_outline_of_a_large_image_is_measured_at_once(page: Any) -> None:
    image = xr.DataArray(np.full((1, 3000, 3000), 7, np.int16), dims=("slice", "row", "col"))
    angles = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    drawn = Roi("large", 0, tuple(zip(1500 + 1400 * np.cos(angles), 1500 + 1400 * np.sin(angles), strict=True)))
    with looking_at(image.dicom.view(show=False, rois=[drawn], window=(7, 8)), page) as screen:
        count = int(image.dicom.roi_statistics([drawn])["count"].item())
        assert f"7 ± 0  n {count}" in screen.js("viewer.viewports[0].svg.textContent")
        spent = screen.js(
            "(() => { const t = performance.now(); viewer.drawing.paintAll(); return performance.now() - t })()"
        )
        assert spent < 500


def test_curves_of_overlapping_outlines_are_what_python_measures(image: xr.DataArray, page: Any) -> None:
    # Two regions that overlap, one of them of parts that overlap, on two slices; a region of one time has no curve.
    rois = [
        *(square("here", 1, 3, tags=(0,)), square("a", 2, 9), square("b", 6, 15)),
        *(square("b", 10, 20), square("b", 3, 5, slice=3)),
    ]
    viewer = image.dicom.view(show=False, rois=rois)
    with looking_at(viewer, page) as screen:
        data = "viewer.args.curves.data"
        screen.page.mouse.click(*screen.at(30, 3))
        screen.until(f"{data}.ys.length === 3 && {data}.ys.every((ys) => [...ys].every(Number.isFinite))")
        names, colours = screen.js(f"[...{data}.name]"), screen.js(f"[...{data}.color]")
        assert names == ["slice 2, row 30, col 3", "a", "b"]
        curves = screen.js(f"{data}.ys.map((ys) => [...ys])")
        assert curves[0] == image[:, 2, 30, 3].values.tolist()
        means = viewer.roi_statistics()["mean"]
        assert curves[1] == pytest.approx(means.sel(roi="a").values)
        assert curves[2] == pytest.approx(means.sel(roi="b").values)
        # Each has the colour of its outlines, and no other has it.
        drawn = "[...viewer.viewports[0].svg.querySelectorAll('polygon')].map((one) => one.getAttribute('stroke'))"
        here, a, b, again = screen.js(drawn)
        assert b == again
        assert colours[1:] == [a, b]
        assert len({here, *colours}) == 4


def test_what_is_measured_is_not_cut_off_at_the_right_edge(image: xr.DataArray, page: Any) -> None:
    roi = Roi("a region with a long name", 2, ((5, 20), (5, 29), (25, 29)))
    with looking_at(image.dicom.view(show=False, rois=[roi]), page) as screen:
        screen.until("viewer.viewports[0].svg.querySelector('text')?.textContent.includes(' n ')")
        right = screen.js("viewer.viewports[0].svg.querySelector('text').getBoundingClientRect().right")
        frame = screen.frame()
        assert right <= frame["left"] + frame["width"]
