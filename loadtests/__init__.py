"""What the gateway costs (`make bench`) and how it behaves under realistic traffic (`make load`)."""
