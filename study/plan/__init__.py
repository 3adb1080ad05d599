"""The plan: from a spec to keyed points, less what is recorded, in packs."""
