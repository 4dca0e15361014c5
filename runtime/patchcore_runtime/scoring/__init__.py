"""Distances to image score, anomaly map, p-value and thresholds."""
