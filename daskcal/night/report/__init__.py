"""The night as one HTML page: what was found, what was made, from what, and why."""

from daskcal.night.report.page import write_report

__all__ = ["write_report"]
