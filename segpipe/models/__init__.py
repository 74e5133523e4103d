"""Networks and their inputs: classifier, U-Net, preprocessing, weights."""
