"""Findings for people: figure, HTML report, PDF page, terminal table."""
