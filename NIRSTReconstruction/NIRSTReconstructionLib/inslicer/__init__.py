"""What NIRSTReconstruction does with the scene; may import slicer, qt and vtk."""
