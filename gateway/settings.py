"""Every setting of every process, read once from the environment (`ASSENT_…`) into one frozen object.

Only `assemble` and `local` read it; every other room is handed plain values. docs/settings.md is checked against it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """One process's configuration. Field names upper-cased behind `ASSENT_` are the environment's names."""

    model_config = SettingsConfigDict(env_prefix="ASSENT_", env_ignore_empty=True, frozen=True, extra="ignore")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Valkey or Redis; `redis+cluster://host:port` for a cluster"
    )
    redis_trusted: bool = Field(
        False,
        description="For a server that denies CONFIG: you vouch for maxmemory-policy `noeviction` and "
        "hash-max-listpack-value 512, which then go unread",
    )
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, comma-separated")
    database_url: SecretStr = Field(SecretStr("postgresql://assent@127.0.0.1:5432/assent"), description="PostgreSQL")
    pepper: SecretStr = Field(
        SecretStr(""), description="Hex, >= 32 bytes: names recipients and digests keys; never changes"
    )
    master_key: SecretStr = Field(SecretStr(""), description="Hex, 32 bytes: wraps each person's own key")
    topic_prefix: str = Field("", description="Prefix of every Kafka topic and consumer group")
    partitions: Annotated[int, Field(ge=1, le=256)] = Field(4, description="Partitions of a topic made at first start")
    replication: Annotated[int, Field(ge=1, le=9)] = Field(
        3, description="Replication factor of topics made at first start"
    )
    host: str = Field("127.0.0.1", description="Where the edge listens")
    port: Port = Field(8080, description="The edge's port; it serves /metrics too")
    public_url: Annotated[str, Field(pattern=r"^https?://[^/\s]+/?$")] | None = Field(
        None, description="Where people reach `/c/`, as https://host; unset: as each request's Host says"
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks, comma-separated, whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="uvicorn workers of the edge")
    carrier: Literal["simulator", "http"] = Field("simulator", description="The default carrier")
    carrier_url: str | None = Field(
        None, description="Submit address of carrier `http`; setting it selects that carrier"
    )
    carrier_key: SecretStr | None = Field(None, description="Bearer key sent to the HTTP carrier, when it wants one")
    carrier_query_url: str | None = Field(
        None,
        description="Where carrier `http` is asked what became of a message whose answer was lost; unset: it is not "
        "asked. Settle needs it as well as deliver",
    )
    carrier_query_final: bool = Field(
        False,
        description="Whether that carrier's NOTFOUND, half an hour after the submit, means that it never took the "
        "message: then its window slots are given back. It is never sent again either way",
    )
    carrier_rate: Annotated[int, Field(ge=1)] = Field(
        20_000, description="Messages a second to the carrier, per process"
    )
    carrier_window: Annotated[int, Field(ge=1)] = Field(
        2_000, description="Messages in flight to the carrier, per process"
    )
    simulator_seed: int = Field(1, description="Seed of the simulated carrier")
    simulator_latency_ms: int = Field(20, description="Median submit latency of the simulated carrier")
    records_days: Annotated[int, Field(ge=150)] = Field(
        183, description="Days that messages and what became of them are kept; Order 31 asks for five months"
    )
    contents_days: Annotated[int, Field(ge=1)] = Field(
        183, description="Days that texts and numbers of messages are kept, sealed; at most ASSENT_RECORDS_DAYS"
    )
    webhook_allow: str = Field(
        "",
        description="Networks, comma-separated, that webhooks may call although they are private, such as 10.20.0.0/16",
    )
    runbook_url: Annotated[str, Field(pattern=r"^\S+$")] = Field(
        "docs/runbook",
        description="Where your operators read docs/runbook; the address of an alert's page begins with it",
    )
    webhook_ports: str = Field("", description="Ports of callback addresses beside 443 and 8443, comma-separated")
    console_host: str = Field("127.0.0.1", description="Where the console listens")
    console_port: Port = Field(8081, description="The console's port")
    console_url: Annotated[str, Field(pattern=r"^https://[^/\s]+/?$")] | None = Field(
        None,
        description="Where people reach the console, as https://host (TLS ends before it); unset: loopback names only",
    )
    ledger_dir: Path = Field(
        Path("/var/lib/assent/ledger"),
        description="The transparency log's folder: the ledger process writes it, edges read it",
    )
    ledger_keys: SecretStr = Field(
        SecretStr(""),
        description="Signer keys of the log, one or more, spaced; make one with `assent ledger key`. All of them sign",
    )
    ledger_keys_file: Path | None = Field(None, description="A file that holds them instead")
    ledger_retired: str = Field("", description="Verifier keys of the log that no longer sign, spaced; still published")
    witnesses: str = Field(
        "", description="Witnesses that cosign checkpoints, spaced: `<submission prefix>=<verifier key>` each"
    )
    timestamp_url: str | None = Field(None, description="An RFC 3161 authority that timestamps checkpoints")
    attest_s: Annotated[float, Field(gt=0)] = Field(60.0, description="Seconds between attestations of a growing log")
    metrics_port: Port = Field(0, description="Where a process other than the edge serves /metrics; 0: nowhere")
    metrics_dir: Path | None = Field(None, description="Shared folder for metrics of several processes on one machine")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged")
    complaint_answer_h: Annotated[int, Field(ge=1, le=720)] = Field(
        24, description="Hours within which a complaint is to be answered first; later is alerted"
    )
    complaint_files: str | None = Field(
        None,
        description="Sources, comma-separated, whose figures somebody signs off by 10:00 of the next day, or it is "
        "alerted; unset: `12321,carrier`, in the local profile none",
    )
    local: bool = Field(False, description="The local profile: loopback only, demo client and keys")
