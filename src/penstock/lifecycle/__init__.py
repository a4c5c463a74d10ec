"""The use cases: run, try, gate, promote, roll back, monitor; ports come as arguments."""
