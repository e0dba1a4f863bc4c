"""What is asked (a study) and how it runs: search, trials, tracking, leaderboards."""
