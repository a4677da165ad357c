"""Turns a report's figures into one self-contained HTML page; holds no rules and does no I/O."""

from stillhouse.pages.page import render
from stillhouse.pages.report import Report

__all__ = ["Report", "render"]
