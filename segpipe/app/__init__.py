"""Web page that analyzes uploaded images. Not a medical device."""
