"""Runs over folders of images: sources, engines, journal, tables and pictures."""
