"""Interpreter of Qt Designer's .ui files; see `load_ui`."""
