"""Outlines and labels in the files of annotation tools: COCO, Label Studio and CVAT."""
