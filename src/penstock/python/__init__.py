"""Penstock from Python and notebooks: run, plan and load what a file declares, or what this process holds."""
