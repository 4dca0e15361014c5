"""Patch features of all training images, and what is computed from them."""
