"""Score images with a PatchCore artifact on any CPU."""
