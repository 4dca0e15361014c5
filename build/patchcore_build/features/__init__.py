"""Patch features of all training images, memory banks, and statistics of normal images."""
