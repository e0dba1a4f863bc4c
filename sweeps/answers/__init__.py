"""What a study's records say to the claim it tests: one pure function a claim, records in, answer out."""
