"""For applications that use a vendor's SDK already: `from_sdk` takes over its endpoint and its credentials.

A module per vendor. What it returns is the settings of an account, to be given to a client in the place of a table.
"""
