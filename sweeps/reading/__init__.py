"""What is recorded, read back: the evidence of an execution, and what its trials say together."""
