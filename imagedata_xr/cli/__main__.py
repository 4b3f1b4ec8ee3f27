"""``python -m imagedata_xr.cli`` is ``image_data``."""

from __future__ import annotations

import sys

from imagedata_xr.cli import main

sys.exit(main())
