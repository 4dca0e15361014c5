"""`make bench-peers`: anomalib, faiss and others beside ours; writes results/peers.md."""
