"""Every field of manifest.json as a frozen dataclass, checked when it is parsed."""
