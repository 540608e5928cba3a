"""Attacks on InstaHide: ranking of candidates, recovery of images, a search of seeds, and a challenge to score them.

InstaHide mixes private images and gives every pixel a random sign (`transformations.instahide`). Each attack takes such
encodings and states what else it needs. An attack may be added as a file of its own; `challenge` scores its images.
"""
