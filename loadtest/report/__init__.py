"""The report of a run: one HTML file that needs no network."""

from loadtest.report.run_page import render, write

__all__ = ["render", "write"]
