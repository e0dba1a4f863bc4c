"""Pictures of a study: one file per group, drawn from evidence. Only drawing knows matplotlib."""
