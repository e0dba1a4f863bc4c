"""Pictures of a study: one file per group, drawn from evidence. The only place that knows matplotlib."""
