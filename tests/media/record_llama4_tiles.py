"""Writes llama4_tiles.json: what Hugging Face's own Llama 4 processor makes of pictures of many sizes.

    python -m pip install torch torchvision transformers pillow
    python tests/media/record_llama4_tiles.py

No weights and no model's tokenizer are needed: the processor writes its marks and patches into the text, and a
tokenizer that knows nothing but them counts them.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

OUT = Path(__file__).with_name("llama4_tiles.json")
MARKS = ("<|image_start|>", "<|image|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>")

SIZES = [
    # one tile, and just beyond
    (1, 1), (16, 16), (100, 100), (336, 336), (337, 336), (336, 337), (337, 337), (335, 335), (200, 300), (336, 1),
    # exact canvases and one pixel around them
    (672, 336), (336, 672), (672, 672), (673, 672), (671, 673), (1008, 672), (1009, 672), (672, 1008), (1008, 1008),
    (1344, 1344), (1345, 1344), (1345, 1345), (1344, 1008), (5376, 336), (336, 5376), (5377, 336), (5376, 337),
    (2352, 336), (1680, 1008), (1008, 1680), (2688, 672), (672, 2688), (1176, 784),
    # usual pictures, pages and screens
    (640, 480), (480, 640), (800, 600), (1024, 768), (1280, 720), (1366, 768), (1600, 1200), (1920, 1080),
    (1080, 1920), (2048, 1536), (2560, 1440), (3000, 2000), (3840, 2160), (4000, 3000), (3000, 4000), (4032, 3024),
    (1240, 1754), (1754, 1240), (850, 1100), (1179, 2556), (1000, 1000), (512, 512), (224, 224), (999, 333),
    # strange shapes
    (3000, 30), (30, 3000), (7000, 100), (1, 2000), (2000, 1), (700, 100), (100, 700), (401, 397), (1343, 1009),
    (1500, 400), (400, 1500), (2017, 671), (671, 2017), (1679, 337), (1681, 335), (337, 1009), (344, 1016),
    # near to what divides evenly
    (4001, 3001), (5000, 4999), (3333, 2500), (2689, 2017), (6001, 1201),
]  # fmt: skip


def main() -> None:
    """Ask the processor about every size."""
    from PIL import Image
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Llama4ImageProcessorFast, Llama4Processor, PreTrainedTokenizerFast

    vocabulary = {mark: number for number, mark in enumerate(("<unk>", *MARKS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(MARKS))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")
    images = Llama4ImageProcessorFast()
    processor = Llama4Processor(images, wrapped)
    rows = []
    for width, height in SIZES:
        picture = Image.new("RGB", (width, height), "navy")
        ids = processor(images=[picture], text=["<|image|>"])["input_ids"][0]
        assert vocabulary["<unk>"] not in ids
        tall, wide = (int(number) for number in images(images=[picture])["aspect_ratios"][0])
        rows.append([width, height, tall, wide, len(ids)])
    made = {name: version(name) for name in ("transformers", "torch", "torchvision", "tokenizers", "pillow")}
    head = {
        "source": "transformers Llama4Processor and Llama4ImageProcessorFast with their default settings",
        "versions": {"python": platform.python_version(), **made},
        "columns": ["width", "height", "rows", "columns", "tokens"],
    }
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    OUT.write_text(json.dumps(head, indent=1)[:-2] + f',\n "sizes": [\n{lines}\n ]\n}}\n', "utf-8")
    print(f"{len(rows)} sizes written to {OUT.name}")


if __name__ == "__main__":
    main()
