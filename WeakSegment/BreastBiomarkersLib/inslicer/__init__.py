"""The only library code that may import slicer, qt and ctk."""
