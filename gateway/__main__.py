"""Start of the `assent` command, also as `python -m gateway`."""

import os
from pathlib import Path


def main() -> None:
    """Run the command line."""
    _share_metrics()
    from gateway.cli import app  # noqa: PLC0415 - prometheus_client reads its environment when it is imported

    app()


def _share_metrics() -> None:
    """Processes with one ASSENT_METRICS_DIR (an edge's workers, say) add up in its /metrics."""
    folder = os.environ.get("ASSENT_METRICS_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)


if __name__ == "__main__":
    main()
