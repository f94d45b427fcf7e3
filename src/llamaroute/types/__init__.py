"""The vocabulary: pure data that everything else speaks in. Imports nothing but `errors`."""
