"""The same machine at other providers: which regions are near, which machines are alike.

regions.py     the table of places, and what each provider calls its region there
machines.py    what providers document of their machines and do not say in price lists
finding.py     asks all providers, and picks the machines that are alike
accounts.py    with whose credentials: what the environment says
"""
