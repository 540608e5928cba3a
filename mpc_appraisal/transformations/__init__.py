"""Transformations that other work proposes for private learning, built to be measured and attacked.

`rtas_layers` and `rtas_training` train networks by random transformations, `float_shares` does so on shares in floating
point, `instahide` mixes images, and `reconstructive_privacy` computes what such transformations are said to hide. The
attacks on them are in `attacks`. A transformation may be added with its attacks; what a published one computes has to
stay as its paper has it, or the attacks would measure something else.
"""
