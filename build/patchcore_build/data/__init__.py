"""Data sets, their layouts on disk, training images and the demo data."""
