"""Files in and out: image decoding, atomic writing, object storage, names of the files that a run writes."""
