"""Sweeps: resumable sets of trainings, and tables of their results."""
