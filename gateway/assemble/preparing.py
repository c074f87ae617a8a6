"""`assent prepare`: the schema and the topics brought to this version; in the local profile, something to try.

Each step may be run again. A crash leaves the steps before it done.
"""

import asyncio
from importlib.resources import files

from gateway import telemetry
from gateway.assemble import console
from gateway.assemble.commands import connection_of
from gateway.assemble.parts import patiently, secrets
from gateway.assemble.registering import add_form
from gateway.assemble.webhooks import DEMO_SECRET, give_secret
from gateway.records import registry
from gateway.records.migrate import migrate
from gateway.settings import Settings
from gateway.stream import Topics, ensure

DEMO = "demo"
"""The client of the local profile."""


async def prepare(settings: Settings) -> None:
    """Bring the schema and the topics to this version; in the local profile, add the demo client, sender and form."""
    telemetry.configure_logging(settings.log_level)
    keys = secrets(settings)
    dsn = settings.database_url.get_secret_value()
    topics = Topics(settings.topic_prefix)
    await asyncio.gather(
        patiently("PostgreSQL", lambda: migrate(dsn)),
        patiently("Kafka", lambda: ensure(settings.kafka_bootstrap, topics, settings.partitions, settings.replication)),
    )
    if settings.local:
        async with connection_of(settings) as connection:
            await registry.seed_demo(connection, bytes.fromhex(settings.pepper.get_secret_value()))
            await give_secret(connection, keys, DEMO, DEMO_SECRET)
            await console.seed_demo(connection)
        await add_form(settings, demo_form())


def demo_form() -> bytes:
    """The form `acme` of the local profile, and the example for one's own."""
    return files("gateway.assemble").joinpath("acme.toml").read_bytes()
