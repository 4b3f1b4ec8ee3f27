"""The command line, for programs of one's own: `add_options` to an argparse parser, `open_from` its arguments.

Examples
--------
>>> import argparse
>>> import imagedata_xr as ixr
>>> parser = argparse.ArgumentParser()
>>> add_options(parser)
>>> folder = ixr.sample.write_patient(getfixture("tmp_path") / "phantom")
>>> open_from(parser.parse_args(["--order", "time"]), folder / "dynamic_1").dims
('time', 'slice', 'row', 'col')
"""

from __future__ import annotations

from image_data import main
from image_data.options import add_options, open_from

__all__ = ["add_options", "main", "open_from"]
