"""Measurements; each command is run from the repository as `python -m benchmarks.FOLDER.NAME`."""
