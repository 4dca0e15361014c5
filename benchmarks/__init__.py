"""Commands that measure; each is run from the repository as `python -m benchmarks.FOLDER.NAME`."""
