"""What an evaluation writes for people: the HTML report, sheets, and the original files."""
