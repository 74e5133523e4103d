"""Image decoding, atomic writing, object storage, and names of written files."""
