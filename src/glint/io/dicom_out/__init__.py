"""Answers as DICOM: segmentation, structured report, presentation state, secondary capture.

Everything in here is a function of the headers of the source images (headers.py), findings as plain arrays on their
voxels (findings.py) and a stamp that says who answered (stamp.py). Nothing of the source is copied but what headers.py
lists. It needs the extra `dicom` (highdicom).
"""
