"""The pure core: data, kernel, codec, seal. No Redis, clock, randomness, threads or processes."""
