"""The rules: packs, purposes, content, numbers, hours and replies. Pure; the only reading is of the packaged TOML.

What may be sent to whom is data (`packs/*.toml`), never an `if` on a purpose's name.
"""
