"""Small tokenizers for the tiny models: byte-level BPE as in SmolLM2 and Qwen2, SentencePiece-style as in Gemma."""

NORMAL, CONTROL, BYTE = 1, 3, 6
_WORDS = ("the", "and", "ing", "er", "on", "re", "at", "is", "it", "of", "to", "that", "was", "ed", "en", "or")
_CHATML = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
           "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
_GEMMA = ("{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}"
          "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")


def _byte_characters():
    """GPT-2's printable stand-in for each of the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _merges(space):
    """(left, right) pairs that build the words, with and without a leading space, from left to right."""
    pairs = {}
    for word in _WORDS:
        for text in (word, space + word):
            for end in range(1, len(text)):
                pairs.setdefault((text[:end], text[end]))
    return list(pairs)


def byte_level(pre, specials_first, bos, eos):
    """Metadata of a byte-level BPE tokenizer; qwen2 files have their control tokens last, SmolLM2's first."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    merges = _merges("Ġ")
    pieces = sorted(_byte_characters()) + list(dict.fromkeys(left + right for left, right in merges))
    tokens = specials + pieces if specials_first else pieces + specials
    return {
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL if token in specials else NORMAL for token in tokens],
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
        "tokenizer.ggml.bos_token_id": tokens.index(bos),
        "tokenizer.ggml.eos_token_id": tokens.index(eos),
        "tokenizer.ggml.padding_token_id": tokens.index(eos),
        "tokenizer.chat_template": _CHATML,
    }


def sentence_piece():
    """Metadata of a SentencePiece-style tokenizer with byte fallback; merges of higher score go first."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    merged = list(dict.fromkeys(left + right for left, right in _merges("▁")))
    letters = list("▁etaoinshrdlcumwfgypbvk.,\n")
    pieces = list(dict.fromkeys(merged + letters))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": specials + byte_tokens + pieces,
        "tokenizer.ggml.scores": [-1000.0] * len(specials) + [0.0] * 256 + [-float(i) for i in range(len(pieces))],
        "tokenizer.ggml.token_type": [CONTROL] * len(specials) + [BYTE] * 256 + [NORMAL] * len(pieces),
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_sep_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": _GEMMA,
    }
