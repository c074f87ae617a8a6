"""Accepted messages to carriers, once each: slots, claims, commit-ahead, retries; held ones until their time."""
