"""The plan: what a spec comes to, as one frozen product that the run takes.

`plan_study` resolves and keys the points, plans the search, and reads the user's own modules; `Plan.with_records` adds what is recorded,
so that `Plan.missing` is what is left to run. `packs` groups what can train together: points of one `TrialConfig.signature`. Nobody behind
the plan asks the spec again.
"""
