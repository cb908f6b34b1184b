"""Diagnostics of a fit: one call, one report, every check a plain sentence with a verdict."""

from pyro_ssbnn.analysis.diagnostics.diagnose import diagnose
from pyro_ssbnn.analysis.diagnostics.report import Check, Report

__all__ = ["Check", "Report", "diagnose"]
