"""The part of WeakSegment that lives in the scene; may import slicer."""
