"""Head-less stand-in for the Slicer application, strict enough that code failing in Slicer fails here too."""
