"""Random programs, each compared with a plain Python loop over the same records."""
