"""Makes the named sweeps: see :mod:`manyheads.experiments.runner`."""

import sys

from manyheads.experiments.runner import main

sys.exit(main())
