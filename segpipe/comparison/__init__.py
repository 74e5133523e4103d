"""Several models side by side, and ablations."""
