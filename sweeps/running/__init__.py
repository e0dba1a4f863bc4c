"""Running a study: its execution, its trials, when it stops, what a person sees of it. Knows no Ray."""
