"""Cleansing lists: dividing who is on one, and doing or undoing what a named person chose for each category."""
