"""Trained weights: download, read, and match them to a network."""
