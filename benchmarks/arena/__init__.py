"""Contestants in processes of their own that take turns on one machine."""
