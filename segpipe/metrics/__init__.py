"""Metrics as arithmetic on arrays, without torch: segmentation, classification, calibration, bootstrap."""
