"""What calls share: in this process, or with others through a server."""
