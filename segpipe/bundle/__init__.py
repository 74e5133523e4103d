"""A trained model on disk: a folder with weights and `card.json`."""
