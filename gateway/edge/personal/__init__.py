"""A person's own rights: what is held about them, shown whole, and its erasure with a certificate."""
