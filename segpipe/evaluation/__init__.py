"""Scores of a run against labels and masks, with plots and tables."""
