"""Runs the study from Python, or goes on with it, and looks at the test points that every replica gets wrong."""

from __future__ import annotations

import json
import sys

import engram

# Values may be changed as with --set: python look.py '{"training.epochs": 5}'
values = json.loads(sys.argv[1]) if sys.argv[1:] else {}
results = engram.run(engram.load("spirals.yaml", set=values))
print(results.answer)

table = results.predictions(results.best).frame()
table["wrong"] = table["predicted"] != table["target"]
share = table.groupby("id")["wrong"].mean()
print(
    f"{(share == 1).sum()} of {len(share)} test points are wrong in every replica of the best trial"
)
print(
    results.trials[
        ["model.width", "test_error", "test_error_low", "test_error_high", "memorization"]
    ]
)
