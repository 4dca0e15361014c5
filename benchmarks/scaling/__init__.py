"""`make bench-scaling`: how cost grows; writes results/scaling.md."""
