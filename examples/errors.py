"""What can go wrong, and what to catch: python errors.py

Retries and failover have happened already when an error arrives here. The tree is drawn in llamaroute/errors.py.
"""

import llamaroute as lr


def ask(client, question, **options):
    """The answer, or a sentence about what to do."""
    try:
        return client.chat(question, max_tokens=40, **options).text
    # Nothing was sent: the program or its config file has to change.
    except lr.CapabilityError as error:
        return f"no target can do that; lacking: {error.missing}; these could: {list(error.could_serve)}"
    except (lr.ConfigError, lr.InputError) as error:
        return f"wrong config, argument or image: {error}"
    # The provider said no, or was not heard. More special ones first.
    except (lr.AuthenticationError, lr.PermissionDeniedError) as error:
        return f"{error.provider} does not accept the credentials"
    except (lr.RateLimitError, lr.OverloadedError) as error:
        return f"{error.provider} is busy, try again in {error.retry_after or 'some'} seconds"
    except lr.ContextLengthError:
        return "the question is too long for the model"
    except lr.TimeoutError as error:
        return f"out of time in the phase {error.phase!r} after {len(error.attempts)} attempt(s)"
    except lr.AllTargetsFailedError as error:  # of a route: one exception for each target
        return "; ".join(f"{attempt.target}: {attempt.error.type}" for attempt in error.attempts if attempt.error)
    except lr.ProviderError as error:  # everything else a provider may do; status, request id and body are kept
        return f"{error.target} failed ({type(error).__name__}, status {error.status}, request {error.request_id})"


if __name__ == "__main__":
    with lr.Client() as client:
        print("all is well:", ask(client, "What is a llama? One sentence."))
        print("no such model:", ask(client, "Hi", model="lama-4-scout"))
        print("no such image:", ask(client, ["What is it?", lr.Image("no-such-file.png")], model="tiny"))
        print("a model that sees nothing:", ask(client, ["What is it?", lr.Image("no-such-file.png")]))
        print("out of time:", ask(client, "Tell a long story.", timeout=0.00001))
    try:
        lr.Client({"providers": {"local": {"modle": "smollm2"}}})
    except lr.ConfigError as error:
        print("config file:", error)
