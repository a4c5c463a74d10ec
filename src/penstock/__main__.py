"""`python -m penstock` is the `penstock` command."""

from __future__ import annotations

if __name__ == "__main__":
    import sys

    from penstock.cli import main

    sys.exit(main())
