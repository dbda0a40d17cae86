"""The sweeps of the book, a file a question; what they measured is stored as ``measured/NAME.json``.

``python -m manyheads.experiments lookup`` makes one, without a name all of them. Each finished setting
is written at once: stop when you like, the next run goes on from there. A chapter reads them with
:func:`manyheads.results.load` and makes one setting again for one seed with
:func:`manyheads.experiments.runner.measure`.
"""
