"""`make trust`: hostile artifacts, images and accidents; writes results/trust.md."""
