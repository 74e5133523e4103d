"""Folders of files to result files: sources, engines, journal, recorder, pictures."""
