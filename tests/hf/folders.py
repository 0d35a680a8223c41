"""Tiny models with random weights, in folders as transformers saves them; made without a network.

Their tokens are bytes, so texts and counts are easy to tell; what they say is noise.
"""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
END, PAD, USER, ASSISTANT, SYSTEM = "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL = (END, PAD, USER, ASSISTANT, SYSTEM)
CONTEXT_TOKENS = 256

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"

CHAT_CODE = '''
"""A ChatGLM3-style model: its own `chat` and `stream_chat`, over what transformers has."""

import torch
from transformers import GlmForCausalLM


class TinyChat(GlmForCausalLM):
    def chat(self, tokenizer, query, history=None, **options):
        for response, history in self.stream_chat(tokenizer, query, history, **options):
            pass
        return response, history

    @torch.inference_mode()
    def stream_chat(self, tokenizer, query, history=None, role="user", max_length=256, **options):
        history.append({"role": role, "content": query})
        ids = tokenizer.apply_chat_template(
            history, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        answer = []
        while ids.shape[1] < max_length:
            token = self(ids).logits[0, -1].argmax()
            ids = torch.cat([ids, token.reshape(1, 1)], dim=1)
            answer.append(int(token))
            response = tokenizer.decode(answer)
            yield response, history + [{"role": "assistant", "content": response}]
'''


def make_tokenizer(template: str | None) -> transformers.PreTrainedTokenizerFast:
    """One token a byte, and those that say whose turn it is."""
    words = {word: number for number, word in enumerate((*BYTES, *SPECIAL))}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = template
    return fast


def make_model() -> transformers.GlmForCausalLM:
    """35,000 numbers, the same each time."""
    torch.manual_seed(0)
    end, pad = len(BYTES), len(BYTES) + 1
    config = transformers.GlmConfig(
        vocab_size=len(BYTES) + len(SPECIAL),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=CONTEXT_TOKENS,
        pad_token_id=pad,
        eos_token_id=[end],
    )
    return transformers.GlmForCausalLM(config).eval()


def save(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    """A folder for `transformers:`."""
    make_model().save_pretrained(folder)
    make_tokenizer(template).save_pretrained(folder)
    return folder


def save_chat(folder: Path, *, code: str = CHAT_CODE) -> Path:
    """A folder for `chatglm:`, with code of its own."""
    model = make_model()
    model.config.auto_map = {"AutoModel": "modeling_tiny.TinyChat"}
    model.save_pretrained(folder)
    make_tokenizer(TEMPLATE).save_pretrained(folder)
    (folder / "modeling_tiny.py").write_text(code)
    return folder
