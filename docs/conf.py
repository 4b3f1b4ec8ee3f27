"""Of the site that ``nox -s docs`` makes."""

from importlib.metadata import version as package_version

project = "imagedata_xr"
author = copyright = "imagedata_xr contributors"
release = version = package_version(project)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings say it in words
napoleon_google_docstring = False
html_theme = "furo"
html_title = f"imagedata_xr {release}"
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]
