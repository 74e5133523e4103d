"""Findings for readers: figure, HTML report, PDF page and terminal table."""
