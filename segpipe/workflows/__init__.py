"""Whole workflows, for the commands and for Python: a run over images, a training."""
