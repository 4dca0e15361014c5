"""Good photographs to an artifact: the whole of a fit."""
