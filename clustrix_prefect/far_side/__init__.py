"""What runs on the cluster: standard library only, Python 3.6 and newer.

The agent answers the client and watches the calls, the worker runs them. Both are sent
over the connection and never installed; far away this package is `clustrix_far_side`.
"""
