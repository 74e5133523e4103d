"""Find a skin lesion in a dermoscopic photograph, crop it, name it, and show why. Not a medical device."""

__version__ = "0.2.0"
