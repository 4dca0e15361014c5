"""Fit: good images -> an artifact."""
