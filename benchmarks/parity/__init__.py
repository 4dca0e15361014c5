"""Imported detectors beside the libraries that they come from."""
