"""How a listing of openings names the bits that the two checks of a session open.

WHAT says what the bit means and WHY says when it is opened; both strings stand in requests and in records, and
therefore never change. The protocols are in `logit_bound` and in `norm_check`. This module imports nothing, so that a
request can be read and decided on without torch.
"""

LOGIT_CHECK_WHAT = "whether all trained weights kept the logits within their public bound"
LOGIT_CHECK_WHY = "checked before the result is opened"

NORM_CHECK_WHAT = "whether the model owner's matrices are as short as the noise counts on"
NORM_CHECK_WHY = "checked before the result is opened; it depends on the model owner's own values alone"
