"""Puts processes together from plain values and takes them apart in reverse; reads `Settings`.

One module a process, so that each imports only what it runs.
"""
