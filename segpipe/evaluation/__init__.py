"""Predictions plus labels: how good masks and probabilities are, with intervals and pictures; no torch in here."""
