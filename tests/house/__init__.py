"""How the tree is measured for ``tests/test_house.py`` and ``make check``."""
