"""The two networks and what stands at their edges."""
