"""The clients that are measured, one a file, each as its users would write it.

A file has `Sync`, `Async` or both; what a library cannot do is left out, and the scenarios that need it leave the
client out. Nothing is made before it is needed, so that a start costs what it costs a program that does only this.

    class Sync:
        def __init__(self, base: str): ...                  # http://127.0.0.1:PORT/SETTINGS
        def call(self, prompt, image=None) -> str: ...
        def stream(self, prompt) -> Iterator[str]: ...      # the text of each delta, as it comes
        def tools(self, prompt) -> str: ...                 # a call of a tool and back; optional
        @staticmethod
        def image(png: bytes): ...                          # what `call` takes; once, outside of what is measured
        @staticmethod
        def new_image(png: bytes): ...                      # the same, for each call anew, and measured

    class Async: ...                                        # the same, with `async`, and `aclose()`

`image` and `new_image` are by default the data URL that most clients want (`common.data_url`). `TEMPERATURE` and
`MAX_TOKENS` are sent with every request, so that nobody has less to write.
"""
