"""Examples: where they come from, which of them a replica trains on, and what is done to them."""
