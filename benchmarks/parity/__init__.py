"""Our networks and imported detectors beside the libraries that they come from."""
