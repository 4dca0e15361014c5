"""Read and write files safely, whatever they contain."""
