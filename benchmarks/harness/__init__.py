"""What all benchmarks share: figures, tables, stored sections, features to measure on."""
