"""Everything in Kafka: topics, the coalescing producer, and consumers that never commit past unfinished work."""
