"""Ids, states, codec, seal, events, failure records. No Redis, clock, randomness or processes."""
