"""Look-alikes of Slicer's widgets that show nodes of a scene."""
