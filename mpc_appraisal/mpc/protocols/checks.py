"""The words by which a listing of openings names the bits that the two checks of a session open.

A session opens one bit for each check before it opens a result: whether trained weights kept the logits within their
bound (`logit_bound`), and whether the model owner's matrices are as short as announced (`norm_check`). For each bit,
WHAT says what it means and WHY says when it is opened. All four strings stand in requests and in records, and therefore
they never change. This module imports nothing, and that has to stay, so that a request can be read and decided on
without torch.
"""

LOGIT_CHECK_WHAT = "whether all trained weights kept the logits within their public bound"
LOGIT_CHECK_WHY = "checked before the result is opened"

NORM_CHECK_WHAT = "whether the model owner's matrices are as short as the noise counts on"
NORM_CHECK_WHY = "checked before the result is opened; it depends on the model owner's own values alone"
