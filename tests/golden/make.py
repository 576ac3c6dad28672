#!/usr/bin/env python3
"""Makes the tiny models and the golden values that tests/parity_test.cpp holds hone against.

    make.py -o DIR [--arrays] [--models] [--tiny] [--real smollm2.gguf gemma3.gguf]

--arrays writes DIR/arrays/*, what tests/data_test.cpp reads, and --models DIR/models/*.gguf, the same bytes each time;
--tiny and --real write DIR/values/*.safetensors. A real model given as - is left out. The real models read the first
512 tokens of text.txt, which stand in tokens.json, as do those of the digits that SmolLM2's Grams are made with.
"""
import argparse
import json
import pathlib

import torch

import arrays
import goldens
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
    parser.add_argument("--real", nargs=2, metavar=("SMOLLM2", "GEMMA3"), help="golden values of the real models")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    models, values = options.output / "models", options.output / "values"
    if options.arrays:
        arrays.write_arrays(options.output / "arrays")
    models.mkdir(parents=True, exist_ok=True)
    values.mkdir(exist_ok=True)
    if options.models or options.tiny:
        tiny.write_models(models)
        quantization = tiny.write_quantization(models)
    if options.tiny:
        safetensors.write(values / "quantization.safetensors", quantization)
        goldens.write_activation(values / "activation.safetensors")
        for name in TINY:
            goldens.write_tiny(models / f"{name}.gguf", values / f"{name}.safetensors")
            goldens.write_grams(models / f"{name}.gguf", goldens.tiny_prompts(), [5, 9, 14, 2], [0, 0.25, 0.5, 1],
                                values / f"{name}_grams.safetensors")
    if options.real:
        tokens = json.loads((HERE / "tokens.json").read_text())
        for name, path in zip(("smollm2", "gemma3"), options.real):
            if path != "-":
                goldens.write_real(path, tokens[name], values / f"{name}_real.safetensors")
        if options.real[0] != "-":
            digits = tokens["smollm2_digits"]
            prompts = goldens.digit_prompts(digits, tokens["smollm2_arrow"], tokens["smollm2_newline"])
            goldens.write_grams(options.real[0], prompts, digits, [j / 9 for j in range(10)],
                                values / "smollm2_grams.safetensors")


if __name__ == "__main__":
    main()
