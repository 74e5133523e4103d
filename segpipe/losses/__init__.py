"""Losses, each with its formula."""
