"""Nearest rows of the memory bank for every patch: exact, along principal axes, or approximate."""
