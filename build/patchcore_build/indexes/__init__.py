"""Other search indexes for a finished artifact: build, measure, recommend."""
