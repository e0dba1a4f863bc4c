"""Ray, and nothing else knows it: connecting, actors that train, pruning, jobs, what travels."""
