"""Output for people: progress, tables, error screens, results. The only room that imports rich."""
