"""Release of trained bundles: half-precision copies and the model card."""
