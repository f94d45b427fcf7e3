"""An answer as an object of your own class: python structured.py

The class is sent as a JSON schema to hosts that take one, and made up for elsewhere; what comes back is validated. A
schema gives the right shape, not the truth: a small model fills it with what it believes.
"""

from typing import Literal

from pydantic import BaseModel, Field

import llamaroute as lr


class Animal(BaseModel):
    """What a text says about an animal."""

    name: str
    legs: int = Field(ge=0, le=1000)
    food: Literal["plants", "meat", "both"]


with lr.Client() as client:
    try:
        reply = client.chat("Describe the llama: name, number of legs, food.", output=Animal, max_tokens=80)
    except lr.OutputValidationError as error:  # the model was asked again (output_retries=1) and failed again
        raise SystemExit(f"no valid answer: {error}; the text was {error.reply.text!r}") from None

animal = reply.output
print(f"{animal.name}: {animal.legs} legs, eats {animal.food} (asked for by way of: {reply.output_mode})")
