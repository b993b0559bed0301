"""Golden files: one recorded payload and the shape of every type and version ever written, and the leaf format.

A file is made once (``python -m tests.golden``) and never changed: the log of somebody holds events like it.
"""
