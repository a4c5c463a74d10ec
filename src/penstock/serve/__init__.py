"""Serving: one verified model in memory, a strict door in front of it, and the ledger's deployment to follow.

`model` and `contract` need no web library, so that `penstock predict` scores files with the very object that a
server answers with. Nothing of training is imported here, not even indirectly.
"""
