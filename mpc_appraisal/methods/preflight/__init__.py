"""The pre-flight: whether a method can be trusted on a model, from the model owner's own rows and in the clear.

`check` is the way in: the model owner's rows and methods go in, and a `Preflight` comes out. `parts` divides and
corrupts rows, `study` appraises the parts and retrains with them at one l2 (the strength of the regulariser), `verdict`
and `threshold` judge what came of that, `search` tries other l2, and `result` holds the findings. `halves` and
`calibration` learn what a value means in the model owner's own measure, and `decision` says it in a sentence. Nothing
here may share or open anything: the data owner takes no part, and what is learned stays with the model owner.
"""
