"""Scores of a test set: AUROC, average precision, F1 and AUPRO."""
