"""Codes of the lines in Optuna's journal: private to Optuna, and written in every ledger, so they are kept here alone.

tests/test_private_names.py fails where a release of Optuna moves them.
"""

from __future__ import annotations

CREATE_STUDY = 0
STUDY_ATTRIBUTE = 2
CREATE_TRIAL = 4
TRIAL_PARAMETER = 5
TRIAL_STATE = 6
TRIAL_REPORT = 7
TRIAL_ATTRIBUTE = 8
