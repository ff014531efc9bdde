"""The loopback servers held against clients and documents that are not ours.

A server and a client of one author can share a misunderstanding. Here the servers answer other
people's clients, and documents that the providers publish are given to our client.
"""
