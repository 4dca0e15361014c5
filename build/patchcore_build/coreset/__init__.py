"""Exact greedy k-centre selection of the patches that the memory bank keeps."""
