"""Shared room of the three modules: geometry, files, errors, progress, and running inside Slicer."""
