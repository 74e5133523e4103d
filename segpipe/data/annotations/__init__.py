"""Outlines and labels in files of COCO, Label Studio and CVAT."""
