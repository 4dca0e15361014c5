"""`make bench`: fit, score, searches, int8, cold start; writes results/results.md."""
