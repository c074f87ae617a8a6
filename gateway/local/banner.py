"""What `assent up` prints once everything is ready: addresses, and two commands to paste."""

from datetime import datetime

KEY = "demo-key"
NUMBER = "+8613800138000"


def banner(edge: str, console: str | None, home: str, now: datetime) -> str:
    """The text; `now` is when the example order says it was placed. What an order permits may go out at any hour."""
    placed = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    post = f"curl -sS {edge}/v1/%s -H 'Authorization: Bearer {KEY}' -H 'Content-Type: application/json' \\\n  -d '%s'"
    order = f'{{"recipient":"{NUMBER}","sender":"acme","kind":"order","ref":"SO-1001","occurred_at":"{placed}"}}'
    message = (
        f'{{"to":"{NUMBER}","sender":"acme","purpose":"transaction.shipping","text":"Your order SO-1001 has shipped."}}'
    )
    board = "not installed: the extra `console` has it" if console is None else f"{console}  (user demo, password demo)"
    return f"""
  edge     {edge}
  console  {board}
  docs     {edge}/docs
  consent  {edge}/c/acme
  metrics  {edge}/metrics
  logs     {home}/log

1. Record what permits a message, here an order (登记关系):

{post % ("relationships", order)}

2. Send a message (发送消息); without step 1 the answer is 403 relationship.missing:

{post % ("messages", message)}

Ctrl-C stops everything; the data stays in {home}.
"""
