"""Build, measure and recommend other search indexes for a finished artifact."""
