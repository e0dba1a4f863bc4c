"""MLflow, and the outbox that nothing gets lost in; nobody else knows it."""
