"""Contestants in separate processes that take turns on one machine."""
