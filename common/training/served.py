"""Imported by the server alone from which processes are forked: it ends at once, as nothing of it is kept."""

import atexit
import gc
import os

gc.disable()  # imports end a tenth sooner; a process that is forked enables it
atexit.register(os._exit, 0)  # else whoever reads the script's output waits a second longer for its end
