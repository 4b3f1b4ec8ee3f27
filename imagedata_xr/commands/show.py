"""``image_data show IN...``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from imagedata_xr.commands.convert import window_of
from imagedata_xr.commands.opening import open_several, output_here
from imagedata_xr.commands.report import UsageError, tell_damaged

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Show images until the page is closed or ``q`` is pressed there, and return the exit status."""
    from imagedata_xr.viewer.browse import view

    if arguments.port is not None and not 0 <= arguments.port < 1 << 16:
        msg = f"--port {arguments.port}: a number up to 65535 is wanted, or none, for one that is free"
        raise UsageError(msg)
    if arguments.save is not None and not output_here(arguments.save).name.lower().endswith((".html", ".htm")):
        msg = f"--save {arguments.save}: it is a page, whose name ends with .html"
        raise UsageError(msg)
    found, failures, damaged, _ = open_several(arguments, arguments.sources)
    images = [image for _, image in found]
    status = tell_damaged([*damaged, *failures], others=bool(images))
    options: dict[str, Any] = {
        "hide_identity": arguments.hide_identity,
        "plane": arguments.plane,
        "link": arguments.link,
    }
    if arguments.window is not None:
        window = window_of(arguments.window)
        if not isinstance(window, tuple):
            msg = f"--window {arguments.window}: centre and width are wanted, such as 40,400"
            raise UsageError(msg)
        options["window"] = window
    if arguments.save is not None:
        out = output_here(arguments.save)
        view(images, save=out, overwrite=arguments.force, **options)
        if not arguments.quiet:
            print(f"{out}: {len(images)} series, {out.stat().st_size / 1e6:.1f} MB")
        return status
    viewer = view(images, show=False, **options)
    url = viewer.show(browser=not arguments.no_browser, port=arguments.port)
    print(f"{url}\nclose the page, or press q there, to end", file=sys.stderr, flush=True)
    viewer.wait()
    return status
