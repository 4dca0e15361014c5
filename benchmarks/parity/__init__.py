"""Our networks beside the libraries that they come from, with the same random weights."""
