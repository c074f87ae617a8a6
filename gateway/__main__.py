"""Start of the `assent` command, also as `python -m gateway`."""

from gateway.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
