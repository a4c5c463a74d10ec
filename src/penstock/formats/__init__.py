"""Value ↔ bytes: one file a format, chosen by `registry.FormatRegistry` without importing the value's library."""
