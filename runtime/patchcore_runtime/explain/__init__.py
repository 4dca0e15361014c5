"""Explain a score: heat maps, anomalous regions, and nearest normal patches."""
