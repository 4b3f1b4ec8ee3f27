# PYTHON_ARGCOMPLETE_OK
"""``python -m image_data``."""

import sys

from image_data import main

sys.exit(main())
