"""Data of this project."""
