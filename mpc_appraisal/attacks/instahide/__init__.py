"""Attacks on InstaHide: ranking of candidates, recovery of images, a search of seeds, and a challenge to score them."""
