"""What can be done about a refusal: a sentence for each kind, found by the words of the reason.

By words and not by operator, since one operator is refused for several reasons, and many for the same. What
no words are known of is answered in general.
"""

from __future__ import annotations

import re

_DECODE_BY_OVERLAP = (
    'Decode whole or with strategy="overlap", or export that part of the module in operators that are known.'
)

# The first that is found in the operator and its reason, as in "MatMul: it looks at ...", gives the advice.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"^Range|it numbers the steps",
        "Positions, or the mask of an attention, are counted from it: give the attention a fixed window, or "
        "make what else needs a step's number an input.",
    ),
    (
        r"attention|every other|^Attention|^Softmax.*over time|sums over time",
        "Attention over all steps has no bound: give it a causal mask of a fixed window, or export the part "
        "before it as an encoder that sees the whole utterance, and stream what comes after.",
    ),
    (
        r"draws its own noise",
        "Make the noise an input of the module, and draw it outside, as many steps as there are frames.",
    ),
    (
        r"training",
        "Call module.eval() before the export.",
    ),
    (
        r"its scale comes from the whole tensor",
        "Quantize with fixed scales (static quantization, QDQ), which calibration gives.",
    ),
    (
        r"normalises over|AdaIN|takes the mean over|reduces over time|norm over the whole|largest value",
        "A norm over time needs the whole utterance: use one over channels (LayerNorm), one with fixed "
        "statistics (BatchNorm), or a running one; it has to be trained so.",
    ),
    (
        r"end to its start|utterance's end",
        "A recurrence or a sum that runs backwards needs the whole utterance: use one that runs forwards; it "
        "has to be trained so.",
    ),
    (
        r"final state",
        "Let nothing read the state behind the last step, or make it an output of a graph of its own.",
    ),
    (
        r"^(If|Loop|Scan|SequenceMap)\b|branches",
        "Export without control flow in the graph: trace it along an example, with the condition fixed or "
        "the loop unrolled in Python.",
    ),
    (
        r"number of frames|lengths of|computed from|isn't known|must be a constant|can't be traced",
        "The exporter has written arithmetic with the length: export with constants in place of what only "
        "looks computed (paddings, shapes), and with the one dynamic axis that is time.",
    ),
    (
        r"fixes the length|fixed length|fixed piece|by their number|one after the other|into pieces|"
        r"other end|steps of -?\d+ along|repeats the utterance|at its start|computed places",
        "Steps must be treated alike wherever they are: leave out what joins, cuts or picks steps by their "
        "place (a prompt in front belongs into the frames), or export with a dynamic axis where a length was "
        "frozen.",
    ),
    (
        r"interpolate|stretches time|repeat every step",
        "Repeat steps (mode nearest, by a whole number) or use a transposed convolution; or bring the frames "
        "to their final rate before the decoder.",
    ),
    (
        r"automatic padding|ceil_mode|and pads is not supported|share of the length",
        "Write the padding out as numbers, by an operator of its own before this one if need be.",
    ),
    (
        r"write it as a convolution|^(STFT|DFT)\b|transform runs over time",
        "Write the transform as a convolution with fixed kernels, and its inverse as a transposed one.",
    ),
    (
        r"no rule says|no bounded margin|depends on their values|depends on the data|varies in shape",
        "Export that part of the module in operators that are known; a rule for one that has a bounded view "
        "of time is a function of a few lines in balacoon_tk/graph/rules.",
    ),
    (
        r"mixes|time on different axes|differ in length or rate|channels lie along time|several axes",
        "Keep time on one axis of its own from frames to samples: reshape channels and time apart, and bring "
        "tensors to the same rate before they meet.",
    ),
)


def advice_for(op_type: str, reason: str) -> str:
    """Return a sentence or two on what would make a refused node stream."""
    refusal = f"{op_type}: {reason}"
    for words, advice in _ADVICE:
        if re.search(words, refusal):
            return advice
    return _DECODE_BY_OVERLAP
