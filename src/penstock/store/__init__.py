"""Objects and facts on disk: a directory of immutable bytes, and the SQLite ledger beside it.

Objects are in `penstock.store.objects`, facts in `penstock.store.ledger`; `fsck`, `gc` and `rebuild` keep them.
Nothing is imported here, so that a process which only reads objects loads no SQLite.
"""
