"""Sends what `records.webhooks` holds to the clients it is for."""
