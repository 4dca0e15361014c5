"""Edit a memory bank without a new fit: learn new images, forget old ones."""
