"""The configuration: its models, where it is found, and its JSON Schema."""
