"""Consent forms as clients keep them: a new version, and any version read again.

A version that says what the latest one says is the latest one. A form is held to its sender's rules before it is taken
(`rules.forms`), so that what a person is asked is what may be asked.
"""

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.form import Form, FormDraft, Locale, shown
from gateway.contract.message import Slug
from gateway.edge import acts, bodies
from gateway.edge.callers import Caller, need
from gateway.edge.problems import MAX_ERRORS, Refused
from gateway.edge.strict import routes
from gateway.records import forms
from gateway.rules.forms import faults

router = routes("permissions")
Asking = Annotated[Caller, need("operate")]
CONFIRM = "consent.confirm"
TAKEN = Refusal(Code.CLIENT_FORBIDDEN, "the form's name belongs to another sender")


class FormView(BaseModel):
    """One version of a form, and the digest of its exact text in each language."""

    form: Form
    sha256: dict[Locale, str]
    path: str
    """Where people reach it."""


def view(form: Form) -> FormView:
    """As a client sees it."""
    return FormView(
        form=form, sha256={locale: shown(form, locale).sha256 for locale in form.words}, path=f"/c/{form.id}"
    )


@router.post("/v1/forms", status_code=201)
async def add_form(caller: Asking, body: FormDraft) -> FormView:
    """Store a form's next version. It is what people are shown from now on; older versions stay readable."""
    gate = caller.gate
    acts.check(acts.sender_fault(gate, caller.client, body.sender))
    sender, pack = gate.cfg.sender(body.sender), acts.pack_of(gate, body.sender)
    if sender is None:
        raise Refused(acts.NOT_YOURS)
    found = list(faults(body, sender, pack, pack.purposes[CONFIRM]))
    if found:
        raise Refused(bodies.INVALID, [{"field": field, "message": message} for field, message in found[:MAX_ERRORS]])
    async with gate.pool.acquire() as conn:
        try:
            return view(await forms.add(conn, body))
        except forms.FormTakenError:
            raise Refused(TAKEN) from None


@router.get("/v1/forms/{id}")
async def read_form(
    caller: Asking,
    id: Annotated[Slug, Path(examples=["acme"])],  # noqa: A002 - the path's own word
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> FormView:
    """A form's latest version, or the one that is named."""
    async with caller.gate.pool.acquire() as conn:
        found = await forms.form(conn, id, version)
    if found is None or acts.sender_fault(caller.gate, caller.client, found.sender) is not None:
        raise Refused(Refusal(Code.NOT_FOUND))
    return view(found)
