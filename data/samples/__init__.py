"""Generated sample images of segpipe, installed as `segpipe.samples`."""
