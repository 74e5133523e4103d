"""Training of both networks with Lightning."""
