"""Launching: Ray found or started, packs handed to Ray Tune, what stops a study early."""
