"""The part of RadiomicsPanel that lives in the scene; may import slicer."""
