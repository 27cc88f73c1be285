"""The command line: one command per file."""


def main() -> None:
    """Run ``l2lnp``."""
