"""DICOM files to arrays and back: walk → scan → sort → frames → series; pixels → write."""
