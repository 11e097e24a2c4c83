"""From text, whole or in pieces, to sentences that know where they stood in it.

Transducers one behind another, each of which decides by nothing that comes later: raw phonemes are taken out,
characters cleaned, lines joined, sentences split. `reader` puts them together; markup comes before them all.
"""
