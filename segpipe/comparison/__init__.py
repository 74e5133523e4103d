"""Comparison of several models, and of ablations."""
