"""From photograph to network input: decoding, resizing, regions of interest, statistics."""
