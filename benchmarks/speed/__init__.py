"""How fast the toolkit is, stage by stage and beside other engines; `benchmarks/run.py` is the program.

=================  ===========================================================================
file               measures
=================  ===========================================================================
``stages.py``      each stage alone, against the trained model, and against sgemm
``shares.py``      what a stream's time is spent in, for the same report
``end_to_end.py``  text to sound: TTFA, continuity, RTF, memory, CPU, beside the peers
``growth.py``      TTFA and total against the length of the text
``streams.py``     how many streams play at once without a gap
``start.py``       importing the package, and a warm `TTS`
=================  ===========================================================================

Each of these parts has a ``measure`` that returns plain data. What they share lies in ``measure.py``
(in turn, ratios), ``machine.py`` (facts, sgemm), ``texts.py`` and ``workers.py`` (a process for each
engine); ``targets.py`` says what was promised and ``report.py`` writes it all down.
"""
