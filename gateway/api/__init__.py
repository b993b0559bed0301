"""The control routes: parse, call one function, shape the answer."""
