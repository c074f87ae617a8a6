"""What `assent up` prints once everything is ready: addresses, and two commands to paste."""

from datetime import datetime

KEY = "demo-key"
NUMBER = "+8613800138000"


def banner(edge: str, home: str, now: datetime) -> str:
    """The text; `now` is when the example consent says it was given."""
    given = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    post = f"curl -sS {edge}/v1/%s -H 'Authorization: Bearer {KEY}' -H 'Content-Type: application/json' \\\n  -d '%s'"
    consent = (
        f'{{"recipient":"{NUMBER}","sender":"acme","topics":["marketing"],"action":"grant","channel":"web",'
        f'"occurred_at":"{given}","evidence":{{"checkbox_checked":true,"form_version":"2026-11"}}}}'
    )
    message = f'{{"to":"{NUMBER}","sender":"acme","purpose":"marketing.promotion","text":"20 percent off this week"}}'
    return f"""
  edge     {edge}
  docs     {edge}/docs
  metrics  {edge}/metrics
  logs     {home}/log

1. Record a consent (登记同意):

{post % ("consents", consent)}

2. Send a message it permits (发送消息); without the consent the answer is 403 consent.missing:

{post % ("messages", message)}

Ctrl-C stops everything; the data stays in {home}.
"""
