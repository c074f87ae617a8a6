"""Adding clients, senders and consent forms: what is registered means something and replaces only what it was told to.

PostgreSQL has it when the command ends; the ledger process announces it to every process within a second.
"""

import re
import secrets as random
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.assemble.commands import Declined, connection_of
from gateway.assemble.parts import secrets
from gateway.assemble.webhooks import give_secret
from gateway.contract.form import Form, FormDraft
from gateway.contract.message import Slug
from gateway.contract.registry import ROLE, ROLES, Client, Sender
from gateway.records import forms, registry
from gateway.rules.forms import faults
from gateway.rules.pack import Pack, load, names
from gateway.settings import Settings

PORT = r"^[0-9]{3,20}$"
NAME: TypeAdapter[str] = TypeAdapter(Slug)
CONFIRM = "consent.confirm"
WITHOUT_SENDERS = re.compile(r"carrier:.*|operate")


async def add_client(
    settings: Settings,
    name: str,
    *,
    senders: Sequence[str],
    purposes: Sequence[str],
    roles: Sequence[str],
    quota_per_minute: int,
    replace: bool,
) -> tuple[str, str | None]:
    """Add a client, or replace it with a new key; the key, which is stored nowhere. Raises Declined.

    Also its first webhook secret; one that is replaced keeps the secret it has.
    """
    key = random.token_urlsafe(32)
    keys = secrets(settings)
    pepper = bytes.fromhex(settings.pepper.get_secret_value())
    _check_name(name)
    wanted = Client(
        id=name,
        senders=tuple(senders),
        purposes=tuple(purposes),
        roles=tuple(roles),
        quota_per_minute=quota_per_minute,
    )
    if wanted.id == registry.BUILT_IN.id:
        raise Declined(f"client {wanted.id} is the gateway's own: choose another name")
    async with connection_of(settings) as connection:
        known = await registry.load(connection)
        if not replace and any(one.id == wanted.id for one in known.clients):
            raise Declined(f"client {wanted.id} exists: --replace gives it a new key and these permissions")
        _check_client(wanted, {sender.id: sender for sender in known.senders})
        digest = registry.key_digest(pepper, key)
        async with connection.transaction():
            await registry.put_client(connection, wanted.model_copy(update={"key_digests": (digest,)}))
            secret = await give_secret(connection, keys, wanted.id) if "send" in wanted.roles else None
    return key, secret


async def add_sender(settings: Settings, name: str, fields: Mapping[str, Any], *, replace: bool) -> None:
    """Add a sender of these fields, or replace it. Raises Declined."""
    _check_name(name)
    wanted = Sender(id=name, **fields)
    if wanted.pack not in names():
        raise Declined(f"there is no pack {wanted.pack!r}; --pack is one of: {', '.join(names())}")
    mark = load(wanted.pack).table.signature
    if not mark.min <= len(wanted.signature) <= mark.max or set(wanted.signature) & {mark.open, mark.close, "\n"}:
        raise Declined(f"--signature has {mark.min} to {mark.max} characters, without {mark.open}{mark.close}")
    for option, port in (("--service-port", wanted.service_port), ("--marketing-port", wanted.marketing_port)):
        if not re.fullmatch(PORT, port):
            raise Declined(f"{option} is 3 to 20 digits")
    if wanted.service_port == wanted.marketing_port:
        raise Declined("a port has one use: --service-port and --marketing-port must differ")
    async with connection_of(settings) as connection:
        known = {one.id: one for one in (await registry.load(connection)).senders}
        if wanted.id in known and not replace:
            raise Declined(f"sender {wanted.id} exists: --replace gives it these values")
        if wanted.id in known:
            wanted = wanted.model_copy(update={"carrier": known[wanted.id].carrier})
        _check_ports(wanted, known.values())
        await registry.put_sender(connection, wanted)


def _check_ports(wanted: Sender, known: Iterable[Sender]) -> None:
    """One port, one sender (一端一用): whose a refusal is must be clear from where it was sent to."""
    taken = {port: one.id for one in known if one.id != wanted.id for port in (one.service_port, one.marketing_port)}
    for port in (wanted.service_port, wanted.marketing_port):
        if port in taken:
            raise Declined(f"a port has one sender: {port} is {taken[port]}'s")


async def attest_route(
    settings: Settings, name: str, port: str, *, free: bool, tested_at: datetime | None, by: str
) -> None:
    """Record that replies to a sender's port are free (or not) and when one was seen to arrive; none: now.

    Raises Declined.
    """
    now = datetime.now(UTC)
    at = now if tested_at is None else tested_at if tested_at.tzinfo else tested_at.replace(tzinfo=UTC)
    if at > now + timedelta(minutes=1):
        raise Declined("--tested-at lies ahead: attest what has been seen")
    if not by.strip():
        raise Declined("--by names who attests")
    async with connection_of(settings) as connection:
        known = {one.id: one for one in (await registry.load(connection)).senders}
        sender = known.get(name)
        if sender is None:
            raise Declined(f"no sender {name}; there are: {', '.join(known) or 'none yet'}")
        if port not in (sender.service_port, sender.marketing_port):
            raise Declined(f"--port is one of this sender's: {sender.service_port}, {sender.marketing_port}")
        await registry.attest(connection, name, port, free=free, tested_at=at, by=by)


async def add_form(settings: Settings, text: bytes) -> Form:
    """Store a form, given as TOML, as its next version. Raises Declined with everything that is wrong with it."""
    draft = draft_of(text)
    async with connection_of(settings) as connection:
        known = {one.id: one for one in (await registry.load(connection)).senders}
        sender = known.get(draft.sender)
        if sender is None:
            raise Declined(f"no sender {draft.sender}; there are: {', '.join(known) or 'none yet'}")
        pack = load(sender.pack)
        if wrong := [f"{field}: {what}" for field, what in faults(draft, sender, pack, pack.purposes[CONFIRM])]:
            raise Declined("; ".join(wrong))
        try:
            return await forms.add(connection, draft)
        except forms.FormTakenError:
            raise Declined(f"form {draft.id} belongs to another sender: choose another name") from None


def draft_of(text: bytes) -> FormDraft:
    """A form written as TOML. Raises Declined."""
    try:
        return FormDraft.model_validate(tomllib.loads(text.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise Declined(f"the form is not TOML: {fault}") from None
    except ValidationError as fault:
        found = [f"{'.'.join(map(str, one['loc'])) or 'form'}: {one['msg']}" for one in fault.errors(include_url=False)]
        raise Declined("; ".join(found)) from None


def _check_name(name: str) -> None:
    try:
        NAME.validate_python(name)
    except ValidationError:
        text = "a name is 1 to 32 of a-z, 0-9, `-` and `_`, and begins with a letter or digit"
        raise Declined(text) from None


def _check_client(client: Client, senders: Mapping[str, Sender]) -> None:
    if strange := [role for role in client.roles if not re.fullmatch(ROLE, role)]:
        raise Declined(f"no role {', '.join(strange)}; --roles are {', '.join(ROLES)} and carrier:<name>")
    if not client.roles:
        raise Declined(f"--roles are {', '.join(ROLES)} and carrier:<name>")
    if not client.senders and not all(WITHOUT_SENDERS.fullmatch(role) for role in client.roles):
        raise Declined("--senders: name the senders it may use, or `*`; only carriers and operators do without")
    if strange := [name for name in client.senders if name != "*" and name not in senders]:
        there = ", ".join(senders) or "none yet: add one with `assent sender add`"
        raise Declined(f"no sender {', '.join(strange)}; there are: {there}")
    packs = names() if "*" in client.senders else {senders[name].pack for name in client.senders}
    known = topics([load(name) for name in packs])
    if client.senders and (strange := [name for name in client.purposes if name != "*" and name not in known]):
        raise Declined(f"no purpose or topic {', '.join(strange)}; there are: {', '.join(sorted(known))}")


def topics(packs: Sequence[Pack]) -> set[str]:
    """Every purpose of the packs, and their first segments."""
    purposes = {name for pack in packs for name in pack.purposes}
    return purposes | {name.partition(".")[0] for name in purposes}
