"""Code as strangers write it, by kind: what it comes to far away has to be what it comes to here.

Each module has `CASES`: functions without arguments, or `(function, argument, ...)`.
"""
