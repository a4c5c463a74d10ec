"""`python -m penstock.serve`: one server of one workflow, as `penstock serve` and `deploy` start it."""

from penstock.serve.main import main

if __name__ == "__main__":
    raise SystemExit(main())
