"""Write large, valid DICOM series to measure with: ``python benchmarks/make_series.py OUT --shape 60 40 256 256``.

``--enhanced`` makes one file of all frames, ``--codec`` compressed ones. Headers have about 150 elements, private
ones and nested sequences among them. Names are random, spread over nested folders, so that neither they nor the order
of the folder follow time or place. In every frame ``pixel[0, 0]`` is the number of the volume and ``pixel[0, 1]`` that
of the slice, by which a reader's order can be checked.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = "2.25.272619431"
INTERCEPT = {"MR": 0, "CT": -1024}
SPACING, GAP, STEP = 0.9375, 3.0, 4.3  # mm, mm, s
OBLIQUE = (0.9925461516, -0.1218693434, 0.0, 0.1192062059, 0.9708566368, 0.2079116908)

SHARED: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "StudyDate": "20240131",
    "SeriesDate": "20240131",
    "AcquisitionDate": "20240131",
    "ContentDate": "20240131",
    "StudyTime": "101500.000000",
    "SeriesTime": "102000.000000",
    "AccessionNumber": "A0001",
    "Manufacturer": "Bench",
    "InstitutionName": "Bench Hospital",
    "InstitutionAddress": "1 Long Road",
    "ReferringPhysicianName": "Referring^Physician",
    "StationName": "STATION1",
    "StudyDescription": "Head",
    "SeriesDescription": "dynamic",
    "InstitutionalDepartmentName": "Radiology",
    "PerformingPhysicianName": "Performing^Physician",
    "OperatorsName": "Operator",
    "ManufacturerModelName": "Bench 1",
    "AdmittingDiagnosesDescription": "none",
    "PatientName": "Phantom^Bench",
    "PatientID": "BENCH1",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "PatientAge": "054Y",
    "PatientSize": "1.75",
    "PatientWeight": "72",
    "EthnicGroup": "none",
    "Occupation": "phantom",
    "PatientComments": "synthetic",
    "BodyPartExamined": "HEAD",
    "SliceThickness": str(GAP),
    "SpacingBetweenSlices": str(GAP),
    "DeviceSerialNumber": "12345",
    "SoftwareVersions": "1.0",
    "ProtocolName": "dynamic",
    "ContrastBolusAgent": "none",
    "ContrastBolusVolume": "10",
    "DateOfLastCalibration": "20240101",
    "TimeOfLastCalibration": "080000",
    "PatientPosition": "HFS",
    "StudyID": "1",
    "SeriesNumber": "7",
    "PositionReferenceIndicator": "",
    "ImageComments": "",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "WindowCenter": "500",
    "WindowWidth": "1000",
    "WindowCenterWidthExplanation": "WINDOW1",
    "RequestingPhysician": "Requesting^Physician",
    "RequestedProcedureDescription": "Head",
    "PerformedProcedureStepStartDate": "20240131",
    "PerformedProcedureStepStartTime": "101500",
    "PerformedProcedureStepID": "P1",
    "PerformedProcedureStepDescription": "Head",
    "CommentsOnThePerformedProcedureStep": "",
}
OF_MODALITY: dict[str, dict[str, Any]] = {
    "MR": {
        "SOPClassUID": MRImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "ScanningSequence": "GR",
        "SequenceVariant": ["SP", "OSP"],
        "ScanOptions": "PFP",
        "MRAcquisitionType": "3D",
        "SequenceName": "gre3d",
        "AngioFlag": "N",
        "RepetitionTime": "4.8",
        "EchoTime": "1.7",
        "NumberOfAverages": "1",
        "ImagingFrequency": "123.25",
        "ImagedNucleus": "1H",
        "EchoNumbers": "1",
        "MagneticFieldStrength": "3",
        "NumberOfPhaseEncodingSteps": "192",
        "EchoTrainLength": "1",
        "PercentSampling": "100",
        "PercentPhaseFieldOfView": "81.25",
        "PixelBandwidth": "450",
        "ReceiveCoilName": "Head",
        "TransmitCoilName": "Body",
        "AcquisitionMatrix": [256, 0, 0, 208],
        "InPlanePhaseEncodingDirection": "ROW",
        "FlipAngle": "15",
        "VariableFlipAngleFlag": "N",
        "SAR": "0.05",
        "dBdt": "0",
        "SmallestImagePixelValue": 0,
        "LargestImagePixelValue": 4095,
    },
    "CT": {
        "SOPClassUID": CTImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": "120",
        "DataCollectionDiameter": "500",
        "ReconstructionDiameter": "350",
        "GantryDetectorTilt": "0",
        "TableHeight": "150",
        "RotationDirection": "CW",
        "ExposureTime": "500",
        "XRayTubeCurrent": "200",
        "Exposure": "100",
        "FilterType": "0",
        "GeneratorPower": "24",
        "FocalSpots": "1.2",
        "ConvolutionKernel": "B31",
        "RescaleIntercept": str(INTERCEPT["CT"]),
        "RescaleSlope": "1",
        "RescaleType": "HU",
    },
}
PRIVATE = [("CS", "IMAGE 4"), ("LO", "1.0"), ("DS", "1200.5"), ("SH", "No"), ("SL", [0, 0, -1245]), ("IS", ["0", "1"])]
PRIVATE += [("FD", [1.5, 2.5, 3.5]), ("LO", "FoV 195*240"), ("UL", 7)]


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def shared_header(modality: str, rows: int, columns: int, blob: int) -> Dataset:
    """Return what all frames have in common, with `blob` bytes in one private element."""
    header = _item(**SHARED, **OF_MODALITY[modality], Modality=modality, Rows=rows, Columns=columns)
    header.StudyInstanceUID, header.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
    header.FrameOfReferenceUID = f"{ROOT}.3"
    header.PixelSpacing = [str(SPACING)] * 2
    code = _item(CodeValue="MR1", CodingSchemeDesignator="99BENCH", CodeMeaning="Head")
    image = _item(ReferencedSOPClassUID=MRImageStorage, ReferencedSOPInstanceUID=f"{ROOT}.4")
    step = _item(ScheduledProcedureStepDescription="Head", ScheduledProcedureStepID="S1")
    step.ScheduledProtocolCodeSequence = DicomSequence([code])
    header.ProcedureCodeSequence = DicomSequence([code])
    header.RequestAttributesSequence = DicomSequence([step])
    header.ReferencedImageSequence = DicomSequence([image, image, image])
    for group in (0x0019, 0x0029, 0x0051):
        block = header.private_block(group, f"BENCH {group:04X}", create=True)
        for number, (vr, value) in enumerate(PRIVATE):
            block.add_new(number, vr, value)
    block.add_new(0x10, "OB", bytes(i % 251 for i in range(blob)))
    return header


def count_elements(header: Dataset) -> int:
    """Return the number of elements, those in sequences included."""
    return sum(1 for _ in header.iterall())


def _pixels(volume: int, number: int, rows: int, columns: int) -> np.ndarray:
    """Return a smooth object with noise; the first two pixels say which frame it is."""
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    inside = (x / 0.8) ** 2 + (y / 0.9) ** 2 < 1
    noise = np.random.default_rng((volume, number)).normal(0, 12, (rows, columns))
    values = np.where(inside, 700 + 250 * np.cos(4 * x + 0.1 * number) * np.sin(3 * y) + 2 * volume, 0) + noise
    stored = np.clip(values, 0, 4095).astype("<u2")
    stored[0, :2] = volume, number
    return stored


def make_series(
    out: Path, shape: Sequence[int], *, modality: str = "MR", blob: int = 4096, seed: int = 0, codec: str = ""
) -> None:
    """Write one series of shape (time, slice, row, col) to the new folder `out`, which appears when it is complete."""
    times, slices, rows, columns = shape
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    out.parent.mkdir(parents=True, exist_ok=True)
    names = random.Random(seed)
    shared = shared_header(modality, rows, columns, blob)
    shared.ImageOrientationPatient = [f"{v:.10g}" for v in OBLIQUE]
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        series = Path(temporary, "series")
        for volume in range(times):
            seconds = 10 * 3600 + 1200 + volume * STEP
            clock = f"{seconds // 3600:02.0f}{seconds % 3600 // 60:02.0f}{seconds % 60:09.6f}"
            for number in range(slices):
                frame = Dataset()
                frame.update(shared)
                frame.SOPInstanceUID = f"{ROOT}.5.{volume + 1}.{number + 1}"
                frame.InstanceNumber = volume * slices + number + 1
                frame.AcquisitionNumber = volume + 1
                frame.AcquisitionTime = frame.ContentTime = frame.InstanceCreationTime = clock
                frame.InstanceCreationDate = "20240131"
                place = np.array([-120.5, -110.25, -60.0]) + number * GAP * normal
                frame.ImagePositionPatient = [f"{v:.10g}" for v in place]
                frame.SliceLocation = f"{place @ normal:.8g}"
                if modality == "MR":
                    frame.TemporalPositionIdentifier, frame.NumberOfTemporalPositions = volume + 1, times
                _set_pixels(frame, _pixels(volume, number, rows, columns), codec)
                folder = series / f"{names.randrange(8)}" / f"{names.randrange(5)}"
                folder.mkdir(parents=True, exist_ok=True)
                _save(frame, folder / f"{names.getrandbits(48):012x}", codec)
        series.rename(out)


def _set_pixels(frame: Dataset, stored: np.ndarray, codec: str) -> None:
    """Set the pixel data of a frame, compressed if a codec is named."""
    if not codec:
        frame.add_new("PixelData", "OW", stored.tobytes())
        return
    import imagecodecs
    from pydicom.encaps import encapsulate

    encode = {
        "jpegls": imagecodecs.jpegls_encode,
        "jpeg2000": lambda values: imagecodecs.jpeg2k_encode(values, codecformat="J2K", reversible=True, level=0),
        "jpegll": imagecodecs.ljpeg_encode,
    }[codec]
    frame.add_new("PixelData", "OB", encapsulate([bytes(encode(stored))]))
    frame["PixelData"].is_undefined_length = True


def make_enhanced(out: Path, shape: Sequence[int]) -> None:
    """Write one Enhanced MR file of shape (time, slice, row, col) to the new folder `out`."""
    times, slices, rows, columns = shape
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    header = shared_header("MR", rows, columns, 4096)
    header.SOPClassUID, header.SOPInstanceUID = EnhancedMRImageStorage, f"{ROOT}.6"
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for name in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelSpacing", "FlipAngle", "EchoTime"):
        del header[name]
    header.InstanceNumber, header.NumberOfFrames = 1, times * slices
    header.AcquisitionDateTime = "20240131102000"
    dimensions = _item(DimensionOrganizationUID=f"{ROOT}.7")
    header.DimensionOrganizationSequence = DicomSequence([dimensions])
    header.DimensionIndexSequence = DicomSequence(
        [
            _item(**pointers, DimensionOrganizationUID=f"{ROOT}.7")
            for pointers in (
                {"DimensionIndexPointer": 0x00209128, "FunctionalGroupPointer": 0x00209111},
                {"DimensionIndexPointer": 0x00209057, "FunctionalGroupPointer": 0x00209111},
            )
        ]
    )
    spacing = [str(SPACING)] * 2
    measures = _item(PixelSpacing=spacing, SliceThickness=str(GAP), SpacingBetweenSlices=str(GAP))
    header.SharedFunctionalGroupsSequence = DicomSequence(
        [
            _item(
                PixelMeasuresSequence=DicomSequence([measures]),
                PlaneOrientationSequence=DicomSequence([_item(ImageOrientationPatient=[f"{v:.10g}" for v in OBLIQUE])]),
                MREchoSequence=DicomSequence([_item(EffectiveEchoTime=1.7)]),
                MRTimingAndRelatedParametersSequence=DicomSequence([_item(RepetitionTime="4.8", FlipAngle="15")]),
            )
        ]
    )
    groups, pixels = [], []
    for volume in range(times):
        seconds = 10 * 3600 + 1200 + volume * STEP
        clock = f"20240131{seconds // 3600:02.0f}{seconds % 3600 // 60:02.0f}{seconds % 60:09.6f}"
        for number in range(slices):
            place = np.array([-120.5, -110.25, -60.0]) + number * GAP * normal
            content = _item(
                FrameAcquisitionDateTime=clock,
                FrameReferenceDateTime=clock,
                FrameAcquisitionDuration=4300.0,
                StackID="1",
                InStackPositionNumber=number + 1,
                TemporalPositionIndex=volume + 1,
                DimensionIndexValues=[volume + 1, number + 1],
            )
            kind = _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
            position = _item(ImagePositionPatient=[f"{v:.10g}" for v in place])
            groups.append(
                _item(
                    FrameContentSequence=DicomSequence([content]),
                    PlanePositionSequence=DicomSequence([position]),
                    MRImageFrameTypeSequence=DicomSequence([kind]),
                )
            )
            pixels.append(_pixels(volume, number, rows, columns).tobytes())
    header.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    header.add_new("PixelData", "OW", b"".join(pixels))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        series = Path(temporary, "series")
        series.mkdir()
        _save(header, series / "frames")
        series.rename(out)


SYNTAXES = {
    "": ExplicitVRLittleEndian,
    "jpegls": JPEGLSLossless,
    "jpeg2000": JPEG2000Lossless,
    "jpegll": JPEGLosslessSV1,
}


def _save(frame: Dataset, path: Path, codec: str = "") -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = frame.SOPClassUID, frame.SOPInstanceUID
    meta.TransferSyntaxUID = SYNTAXES[codec]
    file = FileDataset(path, frame, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(path, enforce_file_format=True)


def main() -> None:
    """Write the series that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make; it must not exist")
    parser.add_argument(
        "--shape", type=int, nargs=4, default=(60, 40, 256, 256), metavar=("TIME", "SLICE", "ROW", "COL")
    )
    parser.add_argument("--modality", choices=list(OF_MODALITY), default="MR")
    parser.add_argument("--blob", type=int, default=4096, help="bytes of the largest private element")
    parser.add_argument("--enhanced", action="store_true", help="one Enhanced MR file of all frames")
    parser.add_argument("--codec", choices=list(SYNTAXES), default="", help="compress the pixels")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists")
    if options.enhanced:
        make_enhanced(options.out, options.shape)
        return
    make_series(options.out, options.shape, modality=options.modality, blob=options.blob, codec=options.codec)
    elements = count_elements(shared_header(options.modality, *options.shape[2:], options.blob))
    print(f"{options.shape[0] * options.shape[1]} files, about {elements} elements a header")


if __name__ == "__main__":
    main()
