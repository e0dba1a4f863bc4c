"""Which configuration comes next, and the ledger of what came of each."""
