"""Random programs, each against a plain Python loop over the same records."""
