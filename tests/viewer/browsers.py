"""A real browser that looks at a viewer: keys, wheel and drags go in, pixels and states come out."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from imagedata_xr.viewer.browse import Viewer

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a browser; where there is none the test skips, or fails where it has to be there."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Screen:
    """A page with a viewer."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda told: self.errors.append(told.text) if told.type == "error" else None)

    def open(self, url: str) -> Screen:
        """Load it, and wait until it is drawn."""
        self.page.goto(url)
        self.page.wait_for_function("globalThis.imagedata_xr_viewers?.size > 0")
        self.page.wait_for_function(f"{VIEWER}.viewports.every((v) => v.view && (!v.panel || v.drawn))")
        self.settle()
        return self

    def js(self, expression: str) -> Any:
        """Return the value of an expression, in which ``viewer`` is the viewer."""
        return self.page.evaluate(f"(() => {{ const viewer = {VIEWER}; return {expression} }})()")

    def until(self, expression: str) -> None:
        """Wait until an expression holds."""
        self.page.wait_for_function(f"(() => {{ const viewer = {VIEWER}; return {expression} }})()", timeout=10_000)

    def settle(self) -> None:
        """Wait until what is due is painted."""
        painted = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(go, 20)))"
        self.page.evaluate(f"new Promise((go) => {painted})")

    def place(self, panel: int = 0) -> list[int]:
        """Return where a panel is."""
        return self.js(f"[...viewer.panels[{panel}].state.place]")

    def window(self, panel: int = 0) -> tuple[float, float]:
        """Return values shown black and white."""
        low, high = self.js(f"[viewer.panels[{panel}].state.low, viewer.panels[{panel}].state.high]")
        return low, high

    def frame(self, viewport: int = 0) -> dict[str, float]:
        """Return where the frame of a viewport is on the page."""
        return self.js(
            f"(() => {{ const {{el, view}} = viewer.viewports[{viewport}];"
            "const [b, f] = [el.getBoundingClientRect(), view.frame.bbox];"
            "return {left: b.left + f.left, top: b.top + f.top, width: f.width, height: f.height} })()"
        )

    def at(self, row: float, col: float, viewport: int = 0) -> tuple[float, float]:
        """Return where (row, col) of the shown picture is on the page."""
        x, y = self.js(f"viewer.viewports[{viewport}].toScreen([{row}, {col}])")
        frame = self.frame(viewport)
        return frame["left"] + x, frame["top"] + y

    def hover(self, viewport: int = 0) -> None:
        """Put the mouse into a viewport, without which it gets no keys."""
        frame = self.frame(viewport)
        self.page.mouse.move(frame["left"] + frame["width"] / 2 + 3, frame["top"] + frame["height"] / 2 + 3)

    def press(self, *keys: str, viewport: int | None = None) -> None:
        """Press keys, one after the other."""
        if viewport is not None:
            self.hover(viewport)
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: str = "left", steps: int = 5) -> None:
        """Drag the mouse."""
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        self.page.mouse.move(*end, steps=steps)
        self.page.mouse.up(button=button)
        self.settle()

    def texts(self, viewport: int = 0) -> dict[str, str]:
        """Return what is written in a viewport."""
        texts = f"Object.entries(viewer.viewports[{viewport}].texts)"
        return self.js(f"Object.fromEntries({texts}.map(([name, text]) => [name, text.textContent]))")

    def colours(self, shape: tuple[int, int], viewport: int = 0) -> NDArray[np.uint8]:
        """Return the colour of each pixel's centre as it is on the screen, shape (row, col, 3); texts are hidden."""
        self.js(f"(viewer.viewports[{viewport}].box.style.visibility = 'hidden')")
        self.settle()
        picture = np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self.js(f"(viewer.viewports[{viewport}].box.style.visibility = '')")
        rows, cols = np.mgrid[: shape[0], : shape[1]]
        x0, y0 = self.at(0, 0, viewport)
        x1, y1 = self.at(1, 1, viewport)
        x, y = np.floor(x0 + cols * (x1 - x0)).astype(int), np.floor(y0 + rows * (y1 - y0)).astype(int)
        found: NDArray[np.uint8] = picture[y, x]
        return found

    def is_black(self, viewport: int = 0) -> bool:
        """Return whether nothing is seen of a picture: texts, which are few, aside."""
        frame = self.frame(viewport)
        clip = {"x": frame["left"], "y": frame["top"], "width": frame["width"], "height": frame["height"]}
        picture = np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("L"))
        return float((picture > 0).mean()) < 0.1

    def greys(self, shape: tuple[int, int], viewport: int = 0) -> NDArray[np.int64]:
        """Return the grey level of each pixel's centre; colours fail."""
        found = self.colours(shape, viewport).astype(int)
        assert (np.ptp(found, axis=2) == 0).all()
        return found[..., 0]


VIEWER = "[...globalThis.imagedata_xr_viewers.values()].at(-1)"


@contextmanager
def looking_at(viewer: Viewer, page: Any) -> Iterator[Screen]:
    """Give a page of a viewer's server."""
    screen = Screen(page)
    try:
        yield screen.open(viewer.show(browser=False))
        assert screen.errors == []
    finally:
        page.close()
        viewer.close()


def levels(values: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    """Return the grey levels of values in a window (LINEAR), as a palette of 256 colours has them."""
    return np.clip(np.floor((values.astype(float) - low) / (high - 1 - low) * 256), 0, 255).astype(np.int64)
