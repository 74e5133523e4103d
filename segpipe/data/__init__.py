"""Data sets: loading, checking, splitting by lesion, and feeding to a training."""

import os

# Prevents albumentations from checking for updates on the network when imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
