"""Transformers as torch exports them, before a transposed convolution, as decoders have them: they stream.

Of each the mask is written as another model writes it.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable

import onnx
import pytest

from balacoon_tk.export import NotStreamableError, make_streaming
from streaming_laws import assert_streams

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
F = torch.nn.functional

N, HEADS, MOST = 8, 2, 100
"""Channels, heads, and steps of the longest utterance of what has a table."""


def export(module, frames=None, *, opset: int = 17) -> onnx.ModelProto:
    frames = torch.randn(1, N, 12) if frames is None else frames
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (frames,),
            file,
            input_names=["frames"],
            output_names=["samples"],
            dynamic_axes={"frames": {2: "n"}},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_from_string(file.getvalue())


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Transformer(torch.nn.Module):
    """Layers of attention and a network for each step, and a transposed convolution; `attend` may be any."""

    def __init__(self, attend: Callable, *, kv_heads: int = HEADS, n_layers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attend, self.kv_heads = attend, kv_heads
        size = N // HEADS
        self.before = torch.nn.Conv1d(N, N, 3, padding=1)
        self.projections = torch.nn.ModuleList(
            [torch.nn.Linear(N, N + 2 * kv_heads * size, bias=False) for _ in range(n_layers)]
        )
        self.out = torch.nn.ModuleList([torch.nn.Linear(N, N) for _ in range(n_layers)])
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(N) for _ in range(2 * n_layers)])
        self.networks = torch.nn.ModuleList(
            [
                torch.nn.Sequential(torch.nn.Linear(N, 2 * N), torch.nn.GELU(), torch.nn.Linear(2 * N, N))
                for _ in range(n_layers)
            ]
        )
        self.up = torch.nn.ConvTranspose1d(N, 2, 4, 2, padding=1)
        self.register_buffer("table", torch.ones(1, 1, MOST, MOST).tril().triu(-4).bool())
        self.register_buffer("embedding", torch.randn(MOST, N))

    def forward(self, frames):
        x = self.before(frames).transpose(1, 2)
        size = N // HEADS
        for k, (project, out, network) in enumerate(
            zip(self.projections, self.out, self.networks, strict=True)
        ):
            y = project(self.norms[2 * k](x))
            q, key, v = y.split([N, self.kv_heads * size, self.kv_heads * size], -1)
            q, key, v = (
                part.view(1, -1, part.shape[-1] // size, size).transpose(1, 2) for part in (q, key, v)
            )
            y = self.attend(self, q, key, v)
            x = x + out(y.transpose(1, 2).reshape(1, -1, N))
            x = x + network(self.norms[2 * k + 1](x))
        return self.up(x.transpose(1, 2))


def steps(x):
    n = torch.arange(x.shape[-2])
    return n[:, None], n[None, :]


def windowed(_, q, k, v, *, left: int = 5, right: int = 0):
    i, j = steps(q)
    mask = (j <= i + right) & (j > i - left)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def rotary(module, q, k, v):
    angles = torch.arange(q.shape[-2])[:, None].float() * torch.tensor([1.0, 0.1])
    angles = torch.cat([angles, angles], -1)
    return windowed(module, rotate(q, angles.cos(), angles.sin()), rotate(k, angles.cos(), angles.sin()), v)


def grouped(module, q, k, v):
    groups = q.shape[1] // k.shape[1]
    k, v = (
        x[:, :, None].expand(1, x.shape[1], groups, x.shape[2], x.shape[3]).reshape(1, -1, *x.shape[2:])
        for x in (k, v)
    )
    return windowed(module, q, k, v)


def repeated(module, q, k, v):
    groups = q.shape[1] // k.shape[1]
    return windowed(module, q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1))


def alibi(_, q, k, v):
    i, j = steps(q)
    bias = (j - i).float() * torch.tensor([0.5, 0.25])[:, None, None]
    bias = bias.masked_fill((j > i) | (i - j >= 6), float("-inf"))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
    return scores.softmax(-1) @ v


def in_chunks(_, q, k, v):
    i, j = steps(q)
    chunk, of_key = i // 4, j // 4
    mask = (of_key <= chunk) & (of_key >= chunk - 1)
    scores = q @ k.transpose(-1, -2) * 0.5
    return scores.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(-1) @ v


def of_so_many_chunks(_, q, k, v):
    """All of its own chunk and of the one before, as flow-matching decoders are trained to be streamed."""
    i, j = steps(q)
    ends = (torch.div(i, 4, rounding_mode="trunc") + 1) * 4
    starts = (torch.div(i, 4, rounding_mode="floor") - 1).clamp(min=0) * 4
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(j < ends) & (j >= starts))


def buckets(module, q, k, v):
    """Biases of distances that grow coarser the longer they are [Raffel et al. 2020]."""
    i, j = steps(q)
    distance = (i - j).clamp(min=0)
    far = 4 + (torch.log(distance.float().clamp(min=1) / 4) / math.log(8) * 4).to(torch.int64)
    bucket = torch.where(distance < 4, distance, far.clamp(max=7))
    bias = F.embedding(bucket, module.embedding[:8, :HEADS]).permute(2, 0, 1)[None]
    hidden = (j > i) | (i - j > 20)
    scores = q @ k.transpose(-1, -2) + bias.masked_fill(hidden, float("-inf"))
    return scores.softmax(-1) @ v


def from_a_table(module, q, k, v):
    n = q.shape[-2]
    scores = q @ k.transpose(-1, -2) * 0.5
    return torch.where(module.table[:, :, :n, :n], scores, torch.tensor(-1e9)).softmax(-1) @ v


def by_triangles(_, q, k, v):
    n = q.shape[-2]
    full = torch.full((n, n), float("-inf"))
    mask = torch.triu(full, 1) + torch.tril(full, -5)
    scores = torch.bmm(q[0], k[0].transpose(1, 2)) * 0.5
    scores = scores.view(1, HEADS, n, n) + mask
    return torch.bmm(scores.view(HEADS, n, n).softmax(-1), v[0])[None]


def with_positions(module, q, k, v):
    n = q.shape[-2]
    learned = module.embedding[:n].view(1, n, HEADS, -1).transpose(1, 2)
    looked_up = F.embedding(torch.arange(n), module.embedding).view(1, n, HEADS, -1).transpose(1, 2)
    return windowed(module, q + learned, k + looked_up, v)


def by_einsum(_, q, k, v):
    i, j = steps(q)
    scores = torch.einsum("bhid,bhjd->bhij", q, k).masked_fill((j > i) | (j < i - 4), -1e4)
    return torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)


def by_einsum_of_rows(_, q, k, v):
    """Heads behind the steps, as they come out of a projection; keys shared by a group stand for themselves."""
    i, j = steps(q)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    q = q[:, :, None].transpose(2, 3)
    scores = torch.einsum("bthgd,bshd->bhgts", q, k).masked_fill((j > i) | (j < i - 4), -1e4)
    return torch.einsum("bhgts,bshd->bthgd", scores.softmax(-1), v)[:, :, :, 0].transpose(1, 2)


def added_to_a_view(_, q, k, v):
    """Scores of all heads in one batch, as older code has them."""
    i, j = steps(q)
    hidden = (j > i) | (i - j > 3)
    scores = torch.baddbmm(torch.zeros(1), q[0], k[0].transpose(1, 2), beta=0, alpha=0.5)
    scores = scores.masked_fill(hidden[None], float("-inf"))
    return torch.bmm(F.dropout(scores.softmax(-1), 0.1, False), v[0])[None]


def ahead(module, q, k, v):
    return windowed(module, q, k, v, right=2)


ATTENTIONS = {
    "a window": (windowed, HEADS),
    "rotary positions": (rotary, HEADS),
    "a window that looks ahead": (ahead, HEADS),
    "keys shared by heads": (grouped, 1),
    "repeated keys": (repeated, 1),
    "slopes": (alibi, HEADS),
    "chunks": (in_chunks, HEADS),
    "chunks before and after": (of_so_many_chunks, HEADS),
    "buckets of distances": (buckets, HEADS),
    "a table of what is seen": (from_a_table, HEADS),
    "triangles": (by_triangles, HEADS),
    "learned positions": (with_positions, HEADS),
    "Einsum": (by_einsum, HEADS),
    "Einsum of rows": (by_einsum_of_rows, HEADS),
    "a batch of heads": (added_to_a_view, HEADS),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_transformer_streams(name: str) -> None:
    attend, kv_heads = ATTENTIONS[name]
    assert_streams(export(Transformer(attend, kv_heads=kv_heads)), tolerance=1e-5)


class WithinPieces(torch.nn.Module):
    """Attention within every eight steps, without a mask, as some codecs have it between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = torch.nn.Linear(N, 3 * N, bias=False)
        self.up = torch.nn.ConvTranspose1d(N, 2, 4, 2, padding=1)
        angles = torch.arange(8)[:, None] * torch.tensor([1.0, 0.1])
        self.register_buffer("angles", torch.cat([angles, angles], -1))

    def forward(self, frames):
        x = frames.transpose(1, 2)
        q, k, v = (
            part.reshape(1, -1, 8, HEADS, N // HEADS).permute(0, 3, 1, 2, 4)
            for part in self.project(x).chunk(3, -1)
        )
        cos, sin = self.angles.cos(), self.angles.sin()
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + y.permute(0, 2, 3, 1, 4).reshape(1, -1, N)
        return self.up(x.transpose(1, 2))


def test_attention_within_pieces_of_a_fixed_length_streams() -> None:
    assert_streams(export(WithinPieces(), torch.randn(1, N, 16)), tolerance=1e-5, multiple=8)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_codec_streams_from_codes_to_samples(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mimi: a transformer between codes and convolutions, as the library itself masks it."""
    transformers = pytest.importorskip("transformers")
    masks = pytest.importorskip("transformers.masking_utils")
    # Whether several sequences are packed into one is asked with an operator that ONNX doesn't have.
    monkeypatch.setattr(masks, "find_packed_sequence_indices", lambda _: None)
    config = transformers.MimiConfig(
        hidden_size=N, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=4,
        intermediate_size=16, sliding_window=6, num_filters=2, upsampling_ratios=[2], codebook_size=4, num_quantizers=2, num_semantic_quantizers=1,
        codebook_dim=4, vector_quantization_hidden_dimension=4, upsample_groups=N, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MimiModel._from_config(config, attn_implementation=implementation)

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, codes):
            return self.model.decode(codes, return_dict=False)[0]

    codes = torch.randint(0, 4, (1, 2, 12))
    (pair, *_) = assert_streams(export(Decoder(), codes), tolerance=1e-5, n_tokens=4)
    assert {state.max_length for state in pair.spec.states if len(state.shape) == 4} == {5}


def causal(_, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_a_causal_transformer_streams_up_to_the_longest_utterance() -> None:
    model = export(Transformer(causal))
    with pytest.raises(NotStreamableError, match="max_frames"):
        make_streaming(model)
    assert_streams(model, tolerance=1e-5, max_frames=100)
