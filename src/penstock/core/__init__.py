"""The words of Penstock and the Protocols between its parts: standard library only."""
