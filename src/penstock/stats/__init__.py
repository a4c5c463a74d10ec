"""Pure numerics over numpy arrays: intervals, paired tests, drift. No frames, no estimators, no I/O."""
