"""The stages: ordinary functions over frames and estimators, ignorant of engine, store and cache."""
