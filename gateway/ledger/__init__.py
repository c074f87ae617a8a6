"""Consent events in one order, what they say about each person, and their projection into the guard."""
