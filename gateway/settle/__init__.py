"""What became of each message: status from results and receipts, opt-outs from replies, refunds."""
