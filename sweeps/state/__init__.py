"""What is kept on disk: where, under which lock, in which form, and what made it."""
