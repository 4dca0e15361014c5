"""The command line `patchcore-runtime`: one module for each group of commands."""
