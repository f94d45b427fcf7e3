"""The same program on every provider: a question, an image, and a stream.

    python switch_provider.py red.png

Who answers is one line of every_provider.toml, `default`; nothing here changes with it.
"""

import sys
from pathlib import Path

import llamaroute as lr

image = sys.argv[1] if len(sys.argv) > 1 else "picture.png"

with lr.Client(Path(__file__).with_name("every_provider.toml")) as client:
    reply = client.chat("What can you do? Answer in one sentence.", max_tokens=60)
    print("text:  ", reply.text.strip())

    reply = client.chat(["What colour is this image?", lr.Image(image)], max_tokens=20)
    print("image: ", reply.text.strip())

    print("stream: ", end="")
    with client.stream("Tell me a very short story.", max_tokens=60) as stream:
        for text in stream.text():
            print(text, end="", flush=True)

reply = stream.response
print(f"\n[{reply.provider_kind}, {reply.target} = {reply.model_id}, {reply.usage.output_tokens} tokens]")
for notice in reply.warnings:
    print(f"[{notice.code}: {notice.message}]")
