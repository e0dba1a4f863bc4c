"""One trial: a configuration and a dataset become a cohort, and the cohort a record of measures."""
