#!/usr/bin/env python3
"""Writes tests/data/tokens-grid.json: token ids that Hugging Face's transformers gives for a grid of tokenizers, chat
templates and texts. `cargo test --lib tokens_grid` compares this crate's with them.

    pip install transformers==5.24.0 jinja2 && python3 scripts/tokens-grid.py
"""
import copy, datetime, itertools, json, os, tempfile

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
NOW = datetime.datetime(2026, 3, 5, 7, 8, 9)


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Frozen

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(regex=True):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def split_then_bytes(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(False)]}


def metaspace(scheme):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}


def bos_processor(bos, token):
    return {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [token], "tokens": [bos]}}}


def sentencepiece_model():
    """A small BPE with byte fallback, as SentencePiece files become in tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    text = open(os.path.join(ROOT, "src/model/texts/chat_calibration.txt"), encoding="utf-8").read()
    words = text.replace("\n", " ").split(" ")
    special = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=560, special_tokens=special, show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def tokenizers():
    """Name to what replaces the fields of the base; `base` is the bundled model's file or the model above."""
    sentencepiece = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                     {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
               {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    return {
        "byte_level": {"base": "bundled"},
        "llama3": {"base": "bundled", "pre_tokenizer": split_then_bytes(LLAMA3), "post_processor": bos_processor("<s>", 700)},
        "qwen2": {"base": "bundled", "normalizer": {"type": "NFC"}, "pre_tokenizer": split_then_bytes(QWEN2)},
        "prepend": {"base": "sentencepiece", "normalizer": prepend, "decoder": sentencepiece, "post_processor": bos_processor("<s>", 700)},
        "always": {"base": "sentencepiece", "pre_tokenizer": metaspace("always"), "decoder": sentencepiece},
        "first": {"base": "sentencepiece", "pre_tokenizer": metaspace("first"), "decoder": sentencepiece},
        "never": {"base": "sentencepiece", "pre_tokenizer": metaspace("never"), "decoder": sentencepiece},
    }


def build(patch, bases):
    tokenizer = copy.deepcopy(bases[patch["base"]])
    tokenizer |= {key: value for key, value in patch.items() if key != "base"}
    return tokenizer


TEMPLATES = {
    "llama2": "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
    "mistral": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}",
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "llama31": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "gemma": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "generation": "{% for message in messages %}\n{%- if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}\n{%- else %}{%- generation -%} U: {{ message.content }} {%- endgeneration -%}{% endif %}\n{% endfor %}\nA:",
    "named": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "U: {{ messages[0].content }}\nA:"}],
    "json": "{{ messages | tojson }}\n{{ messages[0] | tojson(indent=2) }}\n{{ {'b': [1, 2.5, none, true], 'a': messages[0].content} | tojson(sort_keys=true, separators=(',', ':'), ensure_ascii=true) }} {{ none }} {{ true }} {{ [1, 'x', messages[0].role] }} {{ {'k': 'v'} }}",
    "methods": "{% set c = messages[0].content %}{{ c.split(' ')[0] }}|{{ c.split()|length }}|{{ c.startswith('O') }}|{{ c.lstrip() }}|{{ c.rstrip('!?') }}|{{ c.upper() }}|{{ c.replace('o', '0') }}|{{ c.title() }}|{{ c.find('o') }}{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].get('name', 'none') }}{{ messages[0].get('x') }}",
    "loops": "{% set ns = namespace(n=0, found=false) %}{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}{% set ns.n = ns.n + x %}{{ x }}{% endfor %}{% macro say(t, who='U') %}{{ who }}: {{ t }}{% endmacro %}{{ ns.n }} {{ say(messages[0].content) }} {{ 'yes' if messages|length == 1 else 'no' }}{# a comment #}\n{{ messages[-1]['content'][:3] }}{{ messages | map(attribute='role') | join(',') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}\n",
    "dates": "{{ strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %b %j %p %I %y %-d') }} {{ messages[0]['content'] }}{{ unknown }}{{ messages[0]['content'] is string }}{{ messages[0].x is defined }}",
}

TEXTS = ["hi", "Hello, world!", "  spaced  out ", "O Romeo, Romeo!\nWherefore art thou?", "a\tb", "it’s 2+2=4?", "世界 你好", "ézé e\u0301",
         "🌈 rainbow", "1234567 and 89", "don't WON'T I'll", "<b>html & \"quotes\"</b>", "x\r\ny", "ends with a line\n", "\n\nbegins with lines",
         "{{ not jinja }} {% raw %}", "be <|im_end|> quiet</s>", "user_name(x) { return -1; }"]

SETTINGS = {
    "class": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"},
    "no bos": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False},
}


def load(tokenizer, settings):
    with tempfile.TemporaryDirectory() as folder:
        json.dump(tokenizer, open(folder + "/tokenizer.json", "w"))
        json.dump(settings, open(folder + "/tokenizer_config.json", "w"))
        return AutoTokenizer.from_pretrained(folder)


def main():
    bundled = json.load(open(os.path.join(ROOT, "models/tiny-shakespeare-llama/tokenizer.json")))
    added = [{"id": 700 + index, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for index, content in enumerate(SPECIAL)]
    added.append({"id": 720, "content": "<|user|>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True})
    bundled["added_tokens"] += added
    spm = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": None,
           "post_processor": None, "decoder": None, "model": sentencepiece_model()}
    # Ids of added tokens must follow the vocabulary; renumbered from its end.
    bases = {}
    for name, base in {"bundled": bundled, "sentencepiece": spm}.items():
        size = max(base["model"]["vocab"].values()) + 1
        for token in base["added_tokens"]:
            if token["id"] >= 700:
                token_id = token["id"] - 700
                token["id"] = size + (len(SPECIAL) if token_id == 20 else token_id)
        bases[name] = copy.deepcopy(base)
    grid = {"transformers": transformers.__version__, "now": NOW.strftime("%Y-%m-%d %H:%M:%S"), "tokenizers": {}, "templates": TEMPLATES,
            "texts": TEXTS, "settings": SETTINGS, "cases": [], "plain": [],
            "sentencepiece": bases["sentencepiece"], "added": [t for t in bases["bundled"]["added_tokens"] if t["content"] in SPECIAL + ["<|user|>"]]}
    for name, patch in tokenizers().items():
        bos = next(t["id"] for t in bases[patch["base"]]["added_tokens"] if t["content"] == "<s>")
        if "post_processor" in patch:
            patch["post_processor"] = bos_processor("<s>", bos)
        grid["tokenizers"][name] = patch
    for (t, (tok, patch)), (u, (name, template)) in itertools.product(enumerate(grid["tokenizers"].items()), enumerate(TEMPLATES.items())):
        fast = load(build(patch, bases), SETTINGS["class"] | {"chat_template": template})
        for index in range((3 * t + u) % 3, len(TEXTS), 3):
            ids = fast.apply_chat_template([{"role": "user", "content": TEXTS[index]}], add_generation_prompt=True, tokenize=True, return_dict=False)
            grid["cases"].append([tok, name, index, ids])
    for (tok, patch), (setting, settings) in itertools.product(grid["tokenizers"].items(), SETTINGS.items()):
        if setting == "no bos" and "post_processor" in patch:
            continue  # transformers 5 lets the post-processor win; this crate refuses the contradiction
        fast = load(build(patch, bases), settings)
        for index, text in enumerate(TEXTS):
            ids = fast(text)["input_ids"]
            grid["plain"].append([tok, setting, index, ids, fast.decode(ids, skip_special_tokens=True)])
    path = os.path.join(ROOT, "tests/data/tokens-grid.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(grid, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")
    print(len(grid["cases"]), "conversations and", len(grid["plain"]), "plain texts,", os.path.getsize(path), "bytes")


main()
