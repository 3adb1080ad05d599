"""A soak: studies that run under faults of all kinds until there were enough, then compared with what a calm run of them gives."""
