"""Shared parts of all benchmarks: figures, tables, stored sections, patch features."""
