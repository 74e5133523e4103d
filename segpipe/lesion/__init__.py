"""Localization and cropping of lesions: pure functions on arrays, without torch."""
