"""Plays recorded answers of real servers through the providers: `python -m tests.replay FOLDER`."""
