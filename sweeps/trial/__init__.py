"""One trial: a configuration and a dataset become a trained cohort, and the cohort a record."""
