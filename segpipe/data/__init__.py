"""Data sets: finding them, checking them, splitting them by lesion, and feeding them to a training."""

import os

# Otherwise importing albumentations asks the network for a newer version of itself.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
