"""Operators that can't be exact in a stream, each with its reason."""

from __future__ import annotations

from balacoon_tk.graph.rules.base import Effect, NodeContext, rule

_REASONS = {
    "InstanceNormalization": "it normalises over the whole time axis (as AdaIN does)",
    "GroupNormalization": "it normalises over the whole time axis",
    "MeanVarianceNormalization": "it normalises over the whole time axis",
    "GlobalAveragePool": "it takes the mean over the whole time axis",
    "GlobalMaxPool": "it takes the largest value over the whole time axis",
    "GlobalLpPool": "it takes a norm over the whole time axis",
    "DynamicQuantizeLinear": "its scale comes from the whole tensor, also from steps that are not there yet",
    "Attention": "every step looks at every other",
    "RandomNormal": "it draws its own noise, other in each run: make the noise an input",
    "RandomNormalLike": "it draws its own noise, other in each run: make the noise an input",
    "RandomUniform": "it draws its own noise, other in each run: make the noise an input",
    "RandomUniformLike": "it draws its own noise, other in each run: make the noise an input",
    "Multinomial": "it draws its own noise, other in each run: make the noise an input",
    "Bernoulli": "it draws its own noise, other in each run: make the noise an input",
    "NonZero": "how many steps it gives depends on their values",
    "Compress": "how many steps it gives depends on their values",
    "Unique": "it looks at the whole time axis",
    "Range": "it numbers the steps of the utterance",
    "If": "its branches are not followed: fold the condition before",
    "Loop": "its body is not followed",
    "Scan": "its body is not followed",
    "STFT": "its frames are cut out of the whole utterance: write it as a convolution",
}


def _refuse(ctx: NodeContext) -> Effect:
    ctx.refuse(_REASONS[ctx.node.op_type])


rule(*_REASONS)(_refuse)
