"""The viewer in JupyterLab and in Notebook 7, with a real kernel and a real browser."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

import imagedata_xr as ixr
from tests.generate import write_series
from tests.viewer.browsers import VIEWER, Screen, chromium, levels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser


@contextmanager
def jupyter(folder: Path, program: str) -> Iterator[tuple[str, str]]:
    """Give address and token of a server of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    base = f"http://127.0.0.1:{port}"
    options = [
        *("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={folder}"),
        *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        "--LabApp.extension_manager=readonly",
    ]
    homes = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    with (folder / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *options],
            env={**os.environ, **homes, "JUPYTER_TOKEN": token},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{base}/api?token={token}").close()
                break
            except OSError:
                assert process.poll() is None, (folder / "jupyter.log").read_text()
                assert time.monotonic() < until, (folder / "jupyter.log").read_text()
                time.sleep(0.2)
        yield base, token
    finally:
        process.terminate()
        process.wait(30)


def notebook(path: Path, *cells: str) -> None:
    told = {
        "cells": [
            {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
            for n, cell in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(("program", "path"), [("jupyterlab", "lab/tree"), ("notebook", "notebooks")])
def test_in_notebooks(program: str, path: str, tmp_path: Path) -> None:
    pytest.importorskip(program)
    write_series(tmp_path / "in", times=3, slices=5, rows=40, cols=30)
    image = ixr.open_series(tmp_path / "in", "time")
    notebook(
        tmp_path / "view.ipynb",
        f"import imagedata_xr as ixr\nimage = ixr.open_series({str(tmp_path / 'in')!r}, 'time')",
        "viewer = image.dicom.view(window=(200, 400))\nviewer",
        "print('places', viewer.places, len(viewer.rois[0]))",
        "viewer.rois = [[*viewer.rois[0], ixr.viewer.roi.Roi('of Python', 2, ((5, 20), (5, 28), (20, 28)))]]",
    )
    with jupyter(tmp_path, program) as (base, token), chromium() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 1100})
        screen = Screen(page)
        page.goto(f"{base}/{path}/view.ipynb?token={token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        if program == "jupyterlab":
            page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
        page.wait_for_timeout(4000)  # the notebook is there before the kernel takes cells
        of_the_notebook = list(screen.errors)  # Notebook 7 has one of its own as it loads
        assert program == "notebook" or not of_the_notebook
        page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Shift+Enter")
        page.wait_for_function("globalThis.imagedata_xr_viewers?.size > 0", timeout=90_000)
        page.wait_for_function(f"{VIEWER}.viewports[0].drawn", timeout=30_000)
        screen.settle()
        # Keys and wheel are the viewer's: the notebook neither scrolls nor goes to another cell.
        scrolled = "document.querySelector('.jp-WindowedPanel-outer').scrollTop"
        before = page.evaluate(scrolled)
        screen.press("ArrowUp", "ArrowRight", viewport=0)
        screen.until("viewer.viewports[0].drawn")
        page.mouse.wheel(0, 100)
        screen.settle()
        assert screen.place()[:2] == [1, 2]
        screen.until("viewer.viewports[0].drawn")
        assert page.evaluate(scrolled) == before
        assert (screen.greys((40, 30)) == levels(np.asarray(image[1, 2]), 0, 400)).all()
        screen.press("e")
        screen.drag(screen.at(5, 4), screen.at(25, 14))
        screen.press("Escape")
        page.wait_for_timeout(500)
        page.locator(".jp-Notebook .jp-Cell .cm-content").nth(2).click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_selector("text=places [{'time': 1, 'slice': 2", timeout=30_000)
        told = page.locator(".jp-OutputArea-output").all_inner_texts()[-1]
        assert told.strip().endswith("1"), told  # the region that was drawn
        # What Python sets is seen where the viewer is open, and drawing goes on from there.
        page.locator(".jp-Notebook .jp-Cell .cm-content").nth(3).click()
        page.keyboard.press("Shift+Enter")
        screen.until("viewer.drawing.rois.length === 2")
        assert "of Python" in screen.js("viewer.viewports[0].svg.textContent")
        assert screen.errors == of_the_notebook
