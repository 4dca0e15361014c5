"""Detectors of other libraries, read without their code, and artifacts that score like them."""
