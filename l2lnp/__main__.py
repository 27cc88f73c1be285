"""``python -m l2lnp`` runs the command line."""

from l2lnp.cli import main

if __name__ == "__main__":
    main()
