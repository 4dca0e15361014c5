"""The memory bank: normal patch vectors, their file, and the nearest neighbours among them."""
