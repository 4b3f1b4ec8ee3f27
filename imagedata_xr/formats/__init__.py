"""Formats other than DICOM, one module each, imported on use; `registry` knows them and those of plug-ins."""
