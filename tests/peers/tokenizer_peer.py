#!/usr/bin/env python3
"""Compares hone's tokenizers with others on random and adversarial strings: no difference is allowed.

    tokenizer_peer.py TOKENIZE_LINES [--smollm FILE] [--gemma FILE] [--bert FILE] [--minilm FOLDER] [--count 200000]
                      [--seed 1]

smollm: the PyPI package `tokenizers`, built from the file's vocabulary and merges.
gpt-2, llama-bpe, qwen2: the same on GPT-2's vocabulary (ggml-vocab-gpt-2.gguf), with each model's way to cut words.
bert:   the same on bert-bge's vocabulary (ggml-vocab-bert-bge.gguf) and on MiniLM's folder.
gemma:  SentencePiece's BPE, written out below in the slowest and plainest way, and the PyPI package `sentencepiece` as
        well where it is installed, with a model built from the file's vocabulary.

Only code points that Unicode 14 assigns are used (surrogates excluded): PCRE2 10.42 knows that version, and other
libraries know other ones. `tokenizers` classifies punctuation and marks for BERT by Unicode 8: characters that it takes
for something else are left out there. Python 3.11 has the tables of Unicode 14; other versions of Python are refused.
Exit code: 0 no difference, 1 differences, 2 wrong usage.
"""

import argparse
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
WORD_START = "\u2581"


def read_metadata(path):
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as file:

        def number(code):
            return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]

        def string():
            return file.read(number("Q")).decode()

        def value(kind):
            if kind == 8:
                return string()
            if kind == 9:
                element, count = number("I"), number("Q")
                return [value(element) for _ in range(count)]
            return number(formats[kind])

        if file.read(4) != b"GGUF":
            sys.exit(f"{path} is not a GGUF file")
        number("I"), number("Q")
        return {string(): value(number("I")) for _ in range(number("Q"))}


class RandomTexts:
    """Strings of one to about eighty characters, each drawn in one of several ways."""

    spaces = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e",
              "\u2000", "\u2003", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", WORD_START]
    contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'LL", "'D", "'\u017f",
                    "\u2019s", "''s", "'", "`s"]
    emoji = ["\U0001f600", "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001f44d\U0001f3fd",
             "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"]
    words = ["the", "Hello", "world", "tokenization", "don", "I", "GPT", "naïve", "straße", "und", "für", "Привет", "мир",
             "مرحبا", "नमस्ते", "你好", "世界", "こんにちは", "カタカナ", "안녕", "ไทย", "ελληνικά", "שלום", "int", "return", "self",
             "http", "www", "com", "foo_bar", "camelCase", "JSON", "ﬁ", "Ⅷ", "½"]
    punctuation = [".", ",", "!", "?", "...", "--", "-", "_", "(", ")", "{", "}", "[", "]", "<", ">", "</", "/>", "=>", "==",
                   "!=", "+=", "//", "/*", "*/", "#", "@", "$", "%", "^", "&", "*", "|", "\\", '"', ":", ";", "~", "¿", "。",
                   "、", "«", "»", "—", "€", "°", "×"]

    def __init__(self, seed, literals):
        self.random = random.Random(seed)
        self.literals = literals
        self.assigned, self.marks, self.digits, self.scripts = [], [], [], {}
        for point in range(sys.maxunicode + 1):
            character = chr(point)
            category = unicodedata.category(character)
            if category in ("Cn", "Cs"):
                continue
            self.assigned.append(character)
            if category[0] == "M":
                self.marks.append(character)
            if category[0] == "N":
                self.digits.append(character)
            if category[0] == "L":
                script = unicodedata.name(character, "").split(" ")[0]
                self.scripts.setdefault(script, []).append(character)
        # Half of all code points are CJK, Hangul or private: the others get their share.
        self.rare = [c for c in self.assigned if not ("\u3400" <= c <= "\ud7a3" or "\ue000" <= c <= "\uf8ff" or
                                                      "\U00017000" <= c <= "\U0001b2ff" or c >= "\U00020000")]
        self.script_names = sorted(self.scripts)

    def leave_out(self, characters):
        for name in ("assigned", "marks", "digits", "rare"):
            setattr(self, name, [c for c in getattr(self, name) if c not in characters])
        self.scripts = {name: [c for c in script if c not in characters] or ["a"] for name, script in self.scripts.items()}

    def chunk(self):
        pick = self.random
        kind = pick.randrange(16)
        if kind == 0:
            return pick.choice(self.assigned)
        if kind == 1:
            return pick.choice(self.rare)
        if kind == 2:
            script = self.scripts[pick.choice(self.script_names)]
            return "".join(pick.choices(script, k=pick.randint(1, 8)))
        if kind == 3:
            return "".join(pick.choices(self.digits, k=pick.randint(1, 4)))
        if kind == 4:
            return "".join(pick.choices("0123456789", k=pick.randint(1, 7)))
        if kind == 5:
            return "".join(pick.choices(self.spaces, k=pick.randint(1, 5)))
        if kind == 6:
            return pick.choice(self.spaces[:7]) * pick.randint(1, 40)
        if kind == 7:
            return pick.choice(self.words) + pick.choice(self.contractions)
        if kind == 8:
            return pick.choice(self.emoji)
        if kind == 9:
            return pick.choice(self.words) + "".join(pick.choices(self.marks, k=pick.randint(1, 3)))
        if kind == 10:
            return "".join(pick.choices(self.punctuation, k=pick.randint(1, 4)))
        if kind == 11:
            literal = pick.choice(self.literals)
            return literal if pick.random() < 0.7 else literal[:pick.randint(1, len(literal))]
        if kind == 12:
            return "".join(chr(pick.randrange(128)) for _ in range(pick.randint(1, 6)))
        if kind == 13:
            return pick.choice("aAzZ0 .'!<-=\u4e2d\u0301\U0001f600") * pick.randint(1, 20)
        word = pick.choice(self.words)
        if pick.random() < 0.2:
            word = pick.choice([str.upper, str.title, str.swapcase])(word)
        return pick.choice(["", " ", " ", " "]) + word

    def text(self):
        return "".join(self.chunk() for _ in range(self.random.choice([1, 1, 2, 3, 5, 8, 13])))


def run_hone(program, model, texts, special):
    arguments = [program, model] + (["--special"] if special else [])
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        for text in texts:
            raw = text.encode()
            source.write(struct.pack("<I", len(raw)) + raw)
        source.seek(0)
        subprocess.run(arguments, stdin=source, stdout=sink, check=True)
        sink.seek(0)
        data = sink.read()
    result, at = [], 0
    for _ in texts:
        (count,) = struct.unpack_from("<i", data, at)
        result.append(list(struct.unpack_from(f"<{count}i", data, at + 4)))
        at += 4 + 4 * count
    assert at == len(data)
    return result


def report(name, texts, expected, got):
    different = [i for i in range(len(texts)) if expected[i] != got[i]]
    print(f"{name}: {len(texts)} strings, {sum(map(len, got))} tokens, {len(different)} different", flush=True)
    for i in different[:5]:
        print(f"  text {texts[i]!r}\n  peer {expected[i]}\n  hone {got[i]}")
    return len(different)


def byte_level_peer(metadata, pre_tokenizer, ignore_merges=False):
    from tokenizers import Tokenizer, models

    vocabulary = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(line.split(" ")) for line in metadata["tokenizer.ggml.merges"]]
    peer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
    peer.pre_tokenizer = pre_tokenizer
    return peer


def control_tokens(metadata):
    columns = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"])
    return [token for token, kind in columns if kind == CONTROL]


def encode_all(peer, texts):
    return [encoding.ids for encoding in peer.encode_batch(texts, add_special_tokens=False)]


def compare_smollm(program, path, count, seed):
    from tokenizers import AddedToken, pre_tokenizers

    metadata = read_metadata(path)
    controls = control_tokens(metadata)
    peer = byte_level_peer(metadata, pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]))
    generator = RandomTexts(seed, controls)
    texts = [generator.text() for _ in range(count)]
    differences = report("smollm", texts, encode_all(peer, texts), run_hone(program, path, texts, special=False))
    peer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in controls])
    got = run_hone(program, path, texts, special=True)
    return differences + report("smollm with control tokens", texts, encode_all(peer, texts), got)


def with_pre_tokenizer(path, old, new, directory):
    """A copy of a vocabulary file that names another pre-tokenizer."""

    def entry(name):
        key = b"tokenizer.ggml.pre"
        return struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(name)) + name.encode()

    content = path.read_bytes()
    assert content.count(entry(old)) == 1
    copy = Path(directory) / f"{new}.gguf"
    copy.write_bytes(content.replace(entry(old), entry(new)))
    return copy


def compare_gpt2(program, path, count, seed):
    from tokenizers import Regex, pre_tokenizers

    # As Llama 3 and Qwen2 publish them in their tokenizer.json.
    published = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                 r"\s*[\r\n]+|\s+(?!\S)|\s+")
    metadata = read_metadata(path)
    generator = RandomTexts(seed, control_tokens(metadata) + ["<|im_start|>", "<|eot_id|>"])
    texts = [generator.text() for _ in range(count)]
    differences = 0
    with tempfile.TemporaryDirectory() as directory:
        for name, digits in (("gpt-2", None), ("llama-bpe", "{1,3}"), ("qwen2", "")):
            cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=digits is None)
            if digits is not None:
                split = pre_tokenizers.Split(Regex(published % digits), behavior="isolated", invert=False)
                cut = pre_tokenizers.Sequence([split, cut])
            peer = byte_level_peer(metadata, cut, ignore_merges=name == "llama-bpe")
            got = run_hone(program, with_pre_tokenizer(path, "gpt-2", name, directory), texts, special=False)
            differences += report(f"{name} on GPT-2's vocabulary", texts, encode_all(peer, texts), got)
    return differences


class PlainSentencePiece:
    """Merges the best pair of a list again and again; user-defined pieces are cut out first, the longest at each place."""

    def __init__(self, metadata):
        tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
        scores = metadata["tokenizer.ggml.scores"]
        self.add_prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
        self.pieces, self.user_defined, self.bytes = {}, {}, {}
        for i, (token, kind) in enumerate(zip(tokens, kinds)):
            escaped = token.replace(" ", WORD_START)
            if kind in (NORMAL, USER_DEFINED):
                self.pieces[escaped] = (scores[i], i)
            if kind == USER_DEFINED:
                self.user_defined[escaped] = i
            if kind == BYTE:
                self.bytes[int(token[3:5], 16)] = i
        self.longest = max(map(len, self.user_defined), default=0)

    def encode(self, text):
        if not text:
            return []
        text = (WORD_START if self.add_prefix else "") + text.replace(" ", WORD_START)
        ids, plain, at = [], 0, 0
        while at < len(text):
            lengths = range(min(self.longest, len(text) - at), 0, -1)
            length = next((n for n in lengths if text[at:at + n] in self.user_defined), 0)
            if length:
                ids += self.merge(text[plain:at]) + [self.user_defined[text[at:at + length]]]
                plain = at + length
            at += length or 1
        return ids + self.merge(text[plain:])

    def merge(self, text):
        symbols = list(text)
        lowest = (float("-inf"), -1)
        scores = [self.pieces.get(a + b, lowest)[0] for a, b in zip(symbols, symbols[1:])]
        while scores and (best := max(scores)) > lowest[0]:
            i = scores.index(best)
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
            del scores[i]
            for j in (i - 1, i):
                if 0 <= j < len(scores):
                    scores[j] = self.pieces.get(symbols[j] + symbols[j + 1], lowest)[0]
        ids = []
        for symbol in symbols:
            found = self.pieces.get(symbol)
            ids += [found[1]] if found else [self.bytes[byte] for byte in symbol.encode()]
        return ids


def sentencepiece_processor(metadata):
    """The package's own processor for this vocabulary, by way of a model in protobuf; None where it is not installed."""
    try:
        import sentencepiece
    except ImportError:
        return None

    def varint(value):
        out = b""
        while value > 0x7F:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    def integer(field, value):
        return varint(field << 3) + varint(value)

    def message(field, body):
        return varint(field << 3 | 2) + varint(len(body)) + body

    model = bytearray()
    unknown = metadata["tokenizer.ggml.unknown_token_id"]
    columns = (metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    for i, (token, score, kind) in enumerate(zip(*columns)):
        text = token.replace(" ", WORD_START).encode()
        kind = 2 if i == unknown else kind
        model += message(1, message(1, text) + varint(2 << 3 | 5) + struct.pack("<f", score) + integer(3, kind))
    # Trainer: BPE with byte fallback. Normalizer: identity, every space kept.
    model += message(2, integer(3, 2) + integer(35, 1) + integer(40, unknown))
    add_prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    model += message(3, message(1, b"identity") + integer(3, int(add_prefix)) + integer(4, 0) + integer(5, 1))
    return sentencepiece.SentencePieceProcessor(model_proto=bytes(model))


def unlike_unicode_14(characters):
    """Those that `tokenizers` cleans or cuts otherwise than their general category says."""
    from tokenizers import normalizers, pre_tokenizers

    normalizer, cutter = normalizers.BertNormalizer(handle_chinese_chars=False), pre_tokenizers.BertPreTokenizer()
    found = set()
    for character in characters:
        category = unicodedata.category(character)
        if category[0] == "C":
            expected = " " if character in "\t\n\r" else ""
        elif category[0] == "Z":
            expected = " "
        else:
            decomposed = unicodedata.normalize("NFD", character)
            expected = "".join(c.lower() for c in decomposed if unicodedata.category(c) != "Mn")
        ascii_symbol = character.isascii() and category[0] == "S"
        pieces = 3 if category[0] == "P" or ascii_symbol else 2 if character.isspace() else 1
        cleaned = character == "\ufffd" or normalizer.normalize_str(character) == expected
        if not cleaned or len(cutter.pre_tokenize_str(f"a{character}b")) != pieces:
            found.add(character)
    return found


def compare_bert(program, paths, count, seed):
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    controls = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    generator = RandomTexts(seed, controls + ["##ing", "[unused1]"])
    other = unlike_unicode_14(generator.assigned)
    print(f"bert: {len(other)} characters that tokenizers knows by an older Unicode are left out")
    generator.leave_out(other)
    texts = [generator.text() for _ in range(count)]
    differences = 0
    for path in paths:
        if not path.exists():
            print(f"{path} is absent: not compared")
            continue
        if path.is_dir():
            tokens = (path / "vocab.txt").read_text().split("\n")[:-1]
        else:
            metadata = read_metadata(path)
            columns = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"])
            tokens = [token if kind == CONTROL or token[0] == "[" and token[-1] == "]" and len(token) > 1 else
                      token[1:] if token[0] == WORD_START else "##" + token for token, kind in columns]
        peer = Tokenizer(models.WordPiece(vocab={token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
        peer.normalizer = normalizers.BertNormalizer()
        peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        name = f"bert ({path.name})"
        got = run_hone(program, path, texts, special=False)
        differences += report(name, texts, encode_all(peer, texts), got)
        peer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in controls])
        got = run_hone(program, path, texts, special=True)
        differences += report(name + " with control tokens", texts, encode_all(peer, texts), got)
    return differences


def compare_gemma(program, path, count, seed):
    metadata = read_metadata(path)
    columns = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"])
    literals = [token for token, kind in columns if kind in (CONTROL, USER_DEFINED, BYTE)]
    rare = [token for token in literals if not token.startswith(("<unused", "<0x"))]
    generator = RandomTexts(seed, rare + literals[:40])
    texts = [generator.text() for _ in range(count)]
    got = run_hone(program, path, texts, special=False)
    plain = PlainSentencePiece(metadata)
    differences = report("gemma", texts, [plain.encode(text) for text in texts], got)
    processor = sentencepiece_processor(metadata)
    if processor is None:
        print("gemma: sentencepiece is not installed, not compared with it")
        return differences
    return differences + report("gemma with sentencepiece", texts, [processor.encode(text) for text in texts], got)


def main():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hone"
    data = Path(os.environ.get("HONE_DATA") or Path(__file__).parents[3] / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenize_lines", type=Path)
    parser.add_argument("--smollm", type=Path, default=cache / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--gpt2", type=Path, default=data / "tokenizer" / "ggml-vocab-gpt-2.gguf")
    parser.add_argument("--gemma", type=Path, default=cache / "gemma-3-270m-q4_k_m.gguf")
    parser.add_argument("--bert", type=Path, default=data / "tokenizer" / "ggml-vocab-bert-bge.gguf")
    parser.add_argument("--minilm", type=Path, default=cache / "all-MiniLM-L6-v2")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if unicodedata.unidata_version != "14.0.0":
        parser.error(f"needs Python's tables of Unicode 14.0.0 (Python 3.11), these are {unicodedata.unidata_version}")
    differences = 0
    pairs = ((compare_smollm, options.smollm), (compare_gpt2, options.gpt2), (compare_gemma, options.gemma))
    for compare, model in pairs:
        if model.exists():
            differences += compare(options.tokenize_lines.resolve(), model, options.count, options.seed)
        else:
            print(f"{model} is absent: not compared")
    differences += compare_bert(options.tokenize_lines.resolve(), (options.bert, options.minilm), options.count,
                                options.seed)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
