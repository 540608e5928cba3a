"""The pre-flight: whether a method can be trusted on a model, from the model owner's own rows and in the clear.

`check` is the way in. `parts` divides and corrupts rows, `study` appraises the parts and retrains with them at one l2,
`verdict` and `threshold` judge what came of it, `search` tries other l2, and `result` holds the findings.
"""
