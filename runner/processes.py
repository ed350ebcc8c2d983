"""Ending with one's parent, so that a killed program leaves no process behind."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: int) -> None:
    """Have the kernel send this process the signal `number` when `parent` ends (Linux only).

    It is the thread that started this process whose end counts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)
