"""One question each: defaults, thresholds, coreset, index kinds, int8, learning, monitoring."""
