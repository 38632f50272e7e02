"""Look-alikes of CTK's input widgets and other widgets that know nothing of the scene."""
