"""The record of an accepted message, as the topics of messages carry it to deliver, settle and the archive. Pure."""

from gateway.contract.message import SendRequest
from gateway.guard import Verdict, long_windows
from gateway.intake.answer import basis_of
from gateway.intake.job import Job
from gateway.intake.prepare import ms
from gateway.stream.codec import AcceptedFields, accepted_bytes


def accepted(job: Job, trace: str | None, now_ms: int) -> bytes:
    """The record of an admitted message."""
    prepared, route, verdict = job.prepared, job.prepared.route, job.verdict
    fields: AcceptedFields = {
        "id": job.id,
        "subject": job.subject.hex(),
        "to": prepared.number,
        "text": prepared.content.text,
        "parts": prepared.content.parts,
        "basis": basis_of(route, verdict),
        "accepted_at": now_ms,
        "expires_at": prepared.expires_ms,
    }
    if job.due_ms is not None:
        fields["due"] = job.due_ms
    if trace is not None:
        fields["trace"] = trace
    if job.binding is not None:
        fields["bound"] = (job.binding.digest + job.binding.fingerprint).hex()
    if verdict is not None:
        _permitted(fields, job, verdict)
    _asked(fields, prepared.request)
    return accepted_bytes(route.head, fields)


def _permitted(fields: AcceptedFields, job: Job, verdict: Verdict) -> None:
    """What the admission says of it."""
    if verdict.entry is not None:
        fields["entry"] = verdict.entry
    if verdict.stamp_ms and verdict.state != "held":
        fields["stamp"] = verdict.stamp_ms
    if windows := long_windows(job.prepared.route.plan, verdict):
        fields["long_windows"] = windows


def _asked(fields: AcceptedFields, request: SendRequest) -> None:
    """What its caller gave beside the message itself."""
    if request.not_before is not None:
        fields["not_before"] = ms(request.not_before)
    if request.campaign is not None:
        fields["campaign"] = request.campaign
    if request.list_source is not None:
        fields["list_source"] = request.list_source
    if request.client_ref is not None:
        fields["client_ref"] = request.client_ref
    if request.callback_url is not None:
        fields["callback_url"] = request.callback_url
    if request.approval is not None:
        fields["approval"] = request.approval
    if request.request is not None:
        fields["request_ref"] = request.request.ref
