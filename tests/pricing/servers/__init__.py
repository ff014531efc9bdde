"""The price sources as their documents describe them, on loopback, over TLS.

They import nothing of clustrix_prefect: what they say comes from the providers' documents.
"""
