"""From an image to a finding: test-time augmentation, Grad-CAM, one batch, a whole folder."""
