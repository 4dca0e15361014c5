"""The command line `patchcore-build`: one module for each group of commands."""
