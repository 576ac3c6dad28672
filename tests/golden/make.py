#!/usr/bin/env python3
"""Makes the tiny models and the golden values that hone's tests hold it against.

    make.py -o DIR [--arrays] [--models] [--tiny] [--real smollm2.gguf gemma3.gguf minilm-folder]

--arrays writes DIR/arrays/*, what tests/data/data_test.cpp reads, and --models DIR/models/*, the same bytes each time;
--tiny and --real write DIR/values/*.safetensors. A real model given as - is left out. The language models read the
first 512 tokens of text.txt, which stand in tokens.json, as do those of the digits that SmolLM2's Grams are made with.
MiniLM reads texts.txt line by line, then the first 512 tokens of text.txt; tokens.json has its tokens, too.
"""
import argparse
import json
import os
import pathlib

import torch

import arrays
import bert
import goldens
import lenet
import sae
import safetensors
import tiny

HERE = pathlib.Path(__file__).resolve().parent
TINY = ("llama", "llama_untied", "qwen2", "gemma3")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--arrays", action="store_true", help="files of numpy")
    parser.add_argument("--models", action="store_true", help="the tiny models")
    parser.add_argument("--tiny", action="store_true", help="golden values of the tiny models, which are made too")
    parser.add_argument("--real", nargs=3, metavar=("SMOLLM2", "GEMMA3", "MINILM"), help="golden values of the real models")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))  # torch's own choice may be one

    models, values = options.output / "models", options.output / "values"
    if options.arrays:
        arrays.write_arrays(options.output / "arrays")
    models.mkdir(parents=True, exist_ok=True)
    values.mkdir(exist_ok=True)
    if options.models or options.tiny:
        tiny.write_models(models)
        bert.write_tiny(models)
        quantization = tiny.write_quantization(models)
    if options.tiny:
        safetensors.write(values / "quantization.safetensors", quantization)
        goldens.write_activation(values / "activation.safetensors")
        sae.write(values / "sae.safetensors")
        lenet.write(values / "lenet.safetensors")
        goldens.write_heads(values / "heads.safetensors")
        for name in TINY:
            goldens.write_tiny(models / f"{name}.gguf", values / f"{name}.safetensors")
            goldens.write_grams(models / f"{name}.gguf", goldens.tiny_prompts(), [5, 9, 14, 2], [0, 0.25, 0.5, 1],
                                values / f"{name}_grams.safetensors")
        bert.write_values(models / "bert", bert.TINY_TEXTS, range(bert.LAYERS + 1), values / "bert.safetensors")
    if options.real:
        tokens = json.loads((HERE / "tokens.json").read_text())
        for name, path in zip(("smollm2", "gemma3"), options.real):
            if path != "-":
                goldens.write_real(path, tokens[name], values / f"{name}_real.safetensors")
        if options.real[2] != "-":
            bert.write_vectors(pathlib.Path(options.real[2]), tokens["minilm"], values / "minilm_real.safetensors")
        if options.real[0] != "-":
            digits = tokens["smollm2_digits"]
            prompts = goldens.digit_prompts(digits, tokens["smollm2_arrow"], tokens["smollm2_newline"])
            goldens.write_grams(options.real[0], prompts, digits, [j / 9 for j in range(10)],
                                values / "smollm2_grams.safetensors")


if __name__ == "__main__":
    main()
