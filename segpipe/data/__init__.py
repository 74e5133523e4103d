"""Data sets: finding them, checking them, splitting them by lesion, and feeding them to a training."""
