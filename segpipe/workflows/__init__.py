"""Workflows of the commands and of Python: prediction and training."""
