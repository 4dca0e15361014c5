"""An artifact folder on disk: its files, checksums and signature, read and written."""
