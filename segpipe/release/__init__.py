"""Half-precision copies of trained bundles, and the model card."""
