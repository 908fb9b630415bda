"""MapReduce itself: what map and reduce tasks do to records. No Redis, processes or files."""
