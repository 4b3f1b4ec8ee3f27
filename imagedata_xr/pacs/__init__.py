"""A PACS: instances sent to it, found in it and fetched from it, by DIMSE and DICOMweb."""
