"""Figures of what networks memorise: how many labels, in bits (`bits`), and which samples, and who can tell (`attribution`)."""
