#!/usr/bin/env python3
"""Writes tests/data/ggml-blocks.json: random blocks of every ggml type that is read, and the values that the `gguf`
package of llama.cpp gives for them. `cargo test --lib gguf::blocks` compares this crate's bit for bit.

    pip install gguf==0.19.0 numpy && python3 scripts/ggml-blocks.py
"""
import json, os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
random = np.random.default_rng(19)
# Byte offsets of the f16 in a block: random bits there could be infinite.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
cases = []
for kind in [T.F32, T.F16, T.BF16, *HALVES]:
    values, size = GGML_QUANT_SIZES[kind]
    if kind in HALVES:
        blocks = random.integers(0, 256, (2 if values == 256 else 4, size), dtype=np.uint8)
        for block in blocks:
            for offset in HALVES[kind]:
                block[offset : offset + 2] = np.frombuffer(np.float16(random.normal()).tobytes(), np.uint8)
        decoded = dequantize(blocks, kind)
    else:
        numbers = random.normal(size=8).astype(np.float32)
        if kind == T.BF16:
            blocks = (numbers.view(np.uint32) >> 16).astype("<u2")
            decoded = dequantize(blocks.view(np.uint8).reshape(1, -1), kind)
        else:
            blocks = numbers.astype({T.F32: "<f4", T.F16: "<f2"}[kind])
            decoded = blocks.astype(np.float32)
    cases.append({"name": kind.name, "type": int(kind), "blocks": blocks.tobytes().hex(),
                  "values": np.asarray(decoded, "<f4").tobytes().hex()})
path = os.path.join(ROOT, "tests/data/ggml-blocks.json")
json.dump({"cases": cases}, open(path, "w"), indent=0)
open(path, "a").write("\n")
print(len(cases), "types,", os.path.getsize(path), "bytes")
