"""Typed schemas of the configuration; help text, choices and bounds are metadata of each field."""
