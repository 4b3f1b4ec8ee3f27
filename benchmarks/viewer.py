"""How fast the viewer steps, in headless Chromium: from a key to the canvas, and how many frames a second.

Wants Debian's chromium and Playwright::

    python benchmarks/viewer.py
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import dask.array
import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1]))
from imagedata_xr.viewer.browse import view

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MEASURES = """
() => {
  const draws = []
  const draw = CanvasRenderingContext2D.prototype.drawImage
  CanvasRenderingContext2D.prototype.drawImage = function (...args) {
    if (args.length === 5) draws.push(performance.now())
    return draw.apply(this, args)
  }
  const pause = (ms) => new Promise((go) => setTimeout(go, ms))
  const el = () => globalThis.imagedata_xr_viewers?.values().next().value?.viewports[0].el
  const press = (key) => el().dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}))
  const bounce = (n, size) => (Math.floor(n / (size - 1)) % 2 === 0 ? "ArrowUp" : "ArrowDown")
  globalThis.measure = {
    async latency(count, size, act) {
      const found = []
      for (let n = 0; n < count; n++) {
        await pause(40)
        const start = performance.now()
        draws.length = 0
        act ? act(n) : press(bounce(n, size))
        while (draws.length === 0 && performance.now() - start < 3000) await pause(0)
        found.push(performance.now() - start)
      }
      return found
    },
    async rate(hertz, seconds, size, act) {
      draws.length = 0
      let n = 0
      const start = performance.now()
      while (performance.now() - start < seconds * 1000) {
        act ? act(n) : press(bounce(n, size))
        n++
        await pause(Math.max(0, start + (n * 1000) / hertz - performance.now()))
      }
      const end = performance.now()
      await pause(1500)
      return [draws.filter((t) => t <= end).length / seconds, Math.max(0, (draws.at(-1) ?? 0) - end), n]
    },
    async home() {
      press("Home")
      await pause(300)
    },
    windows(hertz, seconds) {
      const viewer = globalThis.imagedata_xr_viewers.values().next().value
      const {state} = viewer.panels[0]
      return this.rate(hertz, seconds, 0, (n) => viewer.hands.setWindow(state, 100, 800 + (n % 200)))
    },
  }
}
"""


def volume(size: int, slices: int, *, delay: float = 0.0) -> xr.DataArray:
    """Return an image of noise, whose frames take a while to read if a delay is given."""
    noise = np.random.default_rng(1).integers(0, 1000, (slices, size, size), dtype=np.int16)

    def slow(block: Any, block_info: Any = None) -> Any:
        time.sleep(delay)
        return block

    values = dask.array.from_array(noise, chunks=(1, size, size)).map_blocks(slow) if delay else noise
    return xr.DataArray(values, dims=("slice", "row", "col"))


def dynamic_map(browser: Any, size: int, slices: int) -> tuple[float, float]:
    """Return latency [ms] and frames a second of a DynamicMap, whose slider is moved."""
    import holoviews
    import panel

    holoviews.extension("bokeh")
    holoviews.renderer("bokeh").webgl = False  # what is drawn is counted on the canvas
    pane = panel.panel(volume(size, slices).dicom.hv(window=(500, 1000), size=512))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = panel.serve(pane, port=port, address="127.0.0.1", show=False, threaded=True, verbose=False)
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.goto(f"http://127.0.0.1:{port}")
    page.wait_for_selector("canvas")
    page.wait_for_timeout(2000)
    page.evaluate(MEASURES)
    slider = "[...Bokeh.documents[0].all_models].find((m) => m.type === 'Slider')"
    move = f"(n) => {{ {slider}.value = (n + 1) % {slices} }}"
    took = median(page.evaluate(f"measure.latency(30, {slices}, {move})"))
    drawn, *_ = page.evaluate(f"measure.rate(60, 3, {slices}, {move})")
    page.close()
    server.stop()
    return took, drawn


def main() -> None:
    """Print a table."""
    from playwright.sync_api import sync_playwright

    print("| case | key to canvas, median (95 %) | frames/s of 60 keys/s | left after 3 s of keys | windows/s of 60 |")
    print("|---|---|---|---|---|")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for size, slices, delay in ((256, 30, 0.0), (512, 60, 0.0), (512, 60, 0.02)):
            viewer = view(volume(size, slices, delay=delay), show=False, window=(500, 1000), size=512)
            page = browser.new_page(viewport={"width": 900, "height": 700})
            page.goto(viewer.show(browser=False))
            page.wait_for_function("globalThis.imagedata_xr_viewers?.values().next().value?.viewports[0].drawn")
            page.evaluate(MEASURES)
            page.evaluate("measure.home()")
            name = f"{size}² × {slices}" + (f", frames read in {delay * 1000:.0f} ms" if delay else "")
            if delay:
                start = time.perf_counter()
                drawn, left, _ = page.evaluate(f"measure.rate(30, 2, {slices})")
                page.wait_for_function("globalThis.imagedata_xr_viewers.values().next().value.viewports[0].drawn")
                took = time.perf_counter() - start - 3.5
                print(
                    f"| {name}, first pass at 30 Hz | | {drawn:.0f} | {left:.0f} ms; settled {max(0, took):.1f} s | |"
                )
            page.wait_for_timeout(3000)
            page.evaluate("measure.home()")
            took_all = page.evaluate(f"measure.latency(60, {slices})")
            page.evaluate("measure.home()")
            drawn, left, _ = page.evaluate(f"measure.rate(60, 3, {slices})")
            windows, *_ = page.evaluate("measure.windows(60, 3)")
            late = sorted(took_all)[int(0.95 * len(took_all))]
            print(
                f"| {name} | {median(took_all):.0f} ms ({late:.0f}) | {drawn:.0f} | {left:.0f} ms | {windows:.0f} |",
                flush=True,
            )
            page.close()
            viewer.close()
            if not delay:
                its, its_rate = dynamic_map(browser, size, slices)
                ratio = f"{its / median(took_all):.1f} times"
                print(f"| the same as a DynamicMap | {its:.0f} ms: {ratio} | {its_rate:.0f} | | |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
