"""The gap atlas as a run: what its spec must be (population), and a share of its networks trained again and compared (verification).

`gaplab atlas build` trains the population that a spec declares, as any study; `analysis.atlas` says what it holds.
"""
