"""What the planted bugs share: a copy of a module with a bug in it, and the law that sees it first."""

import types

import pytest


def load(source):
    """Run the source as a module of its own."""
    module = types.ModuleType("attention_copy")
    exec(compile(source, "attention_copy.py", "exec"), module.__dict__)
    return module


def first_broken(module, checks):
    """The name of the first law that the module breaks, or None."""
    for name, check in checks:
        try:
            check(module)
        except (Exception, pytest.fail.Exception):  # a crash is as good as a wrong number
            return name
    return None
