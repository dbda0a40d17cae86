"""What every test shares: one thread, no window, and property tests that draw the same cases each time."""

import os

import torch
from hypothesis import settings

os.environ["MPLBACKEND"] = "agg"
torch.set_num_threads(1)

settings.register_profile("same-cases", derandomize=True, database=None, deadline=None, max_examples=25)
settings.load_profile("same-cases")
