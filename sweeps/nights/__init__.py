"""What stands behind `nightly` and `schedule`: when, whether, how it went, what moved, who hears of it."""
