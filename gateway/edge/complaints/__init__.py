"""Complaints: taking them in by JSON and CSV, and acting on their cases."""
