"""All categories and seeds of a data set, with the published figures beside ours."""
