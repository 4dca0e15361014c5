"""Fit and evaluate all categories of a data set, and compare with published figures."""
