"""The study file: read, checked against its rules, and frozen into one value. Light: no numerics."""
