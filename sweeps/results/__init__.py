"""What came of a study: boards, verdicts, comparisons, findings, the report and its figures."""
