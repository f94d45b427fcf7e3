"""Ask, and print the answer as it comes:

    python ask.py "Why is the sky blue?"
    python ask.py "What colour is this image?" --image red.png --model tiny

Which model on which host answers is a line in the config file, llamaroute.toml beside this program.
"""

import argparse
import sys

import llamaroute as lr

parser = argparse.ArgumentParser()
parser.add_argument("question")
parser.add_argument("--image", help="file or URL")
parser.add_argument("--model", help="route, provider:model or provider (default: the config file's `default`)")
arguments = parser.parse_args()

question = [arguments.question, lr.Image(arguments.image)] if arguments.image else arguments.question
with lr.Client() as client, client.stream(question, model=arguments.model, max_tokens=120) as stream:
    for text in stream.text():
        print(text, end="", flush=True)

reply = stream.response
print(f"\n[{reply.target} = {reply.model_id}: {reply.usage.output_tokens} tokens in {reply.timing.total:.1f} s,"
      f" the first after {reply.timing.first_token:.2f} s]", file=sys.stderr)  # fmt: skip
