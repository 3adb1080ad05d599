"""The gap atlas: a declared population of networks, and what it says of memorisation.

Its networks are told apart by what varies in it (population), its tables ask where memorisation is benign (benign), which measure predicts
the gap at fixed corruption (measures), and what moves the interpolation threshold (thresholds); a folder holds them with the networks and a
data card (edition, card). Nothing is trained here: `study.atlas` builds and verifies.
"""
