"""Inference: from images in memory to findings."""
