"""Build PatchCore artifacts from good photographs with MindSpore."""
