"""How trials run: Ray and its actors, checkpoints, stops, and what a person sees meanwhile."""
