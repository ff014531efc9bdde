"""Prices of cloud machines: fetched from those who set them, and checked.

There is no fallback price: a provider that cannot be asked is unavailable, and that is a
finding. Nothing here knows of clusters.
"""
