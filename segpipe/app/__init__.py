"""The web page: photographs in, findings and their reasons out. Not a medical device."""
