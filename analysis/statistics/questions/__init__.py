"""Tables that answer one of the field's questions each.

`ranking` (scored by `rank_scores`): how well do complexity measures predict the gap? `theories`: Rademacher complexity, stability and
memorisation beside what they bound. `predictions`: theory beside measurement. `tuning`: what did a search gain, and by which knob?
"""
