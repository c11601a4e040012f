"""Answers go back to where the images came from: DICOM files, DICOMweb archives, and a watch over an archive."""
