"""The report of a run: one HTML file that needs no network, and an index of all runs that compares two of them."""

from loadtest.report.index_page import write_index
from loadtest.report.run_page import render, write

__all__ = ["render", "write", "write_index"]
