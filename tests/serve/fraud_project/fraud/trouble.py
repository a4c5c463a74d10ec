"""A model that does what it is told to, however bad."""

import ctypes
import os
import subprocess
import sys
import time

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin


class Trouble(RegressorMixin, BaseEstimator):
    """Answers twice what it is asked, unless that is the number of something worse."""

    def __init__(self, notes="."):
        self.notes = notes

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        values = np.asarray(X, dtype=float)[:, 0]
        act = getattr(self, f"do_{int(values[0])}", None) if values[0] >= 100 else None
        if act is not None:
            act()
        return 2 * values

    def do_101(self):
        raise ValueError("these values are not mine")

    def do_102(self):
        raise RuntimeError("out of order")

    def do_103(self):
        sys.exit(0)

    def do_104(self):
        for _ in range(200):
            print("x" * 100_000)

    def do_105(self):
        os.chdir("/")
        time.sleep(0.01)

    def do_201(self):
        while True:
            pass

    def do_202(self):
        kept = []
        while True:
            kept.append(bytearray(b"x" * (8 << 20)))

    def do_203(self):
        os._exit(3)

    def do_204(self):
        for name in ("one", "two"):
            with open(os.path.join(self.notes, name), "w") as file:
                child = subprocess.Popen(["sleep", "600"], start_new_session=name == "two")
                file.write(str(child.pid))
        if os.fork() == 0:
            os.setsid()
            with open(os.path.join(self.notes, "three"), "w") as file:
                file.write(str(os.getpid()))
            time.sleep(600)
        while not os.path.exists(os.path.join(self.notes, "three")):
            time.sleep(0.01)
        os._exit(4)

    def do_205(self):
        ctypes.string_at(0)
