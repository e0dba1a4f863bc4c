"""Studies that run every night: what is due, what moved, who hears of it."""
