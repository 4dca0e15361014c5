"""Held-out scores of the training images, and the thresholds that follow from them."""
