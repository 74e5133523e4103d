"""Generated data set in the layout of HAM10000."""
