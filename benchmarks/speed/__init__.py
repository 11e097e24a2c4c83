"""How fast the toolkit is, stage by stage and beside other engines; `benchmarks/run.py` is the program.

=================  ===========================================================================
file               measures
=================  ===========================================================================
``stages.py``      each stage alone, against the trained model, and against the registers
``shares.py``      what a stream's time is spent in, for the same report
``end_to_end.py``  text to sound: TTFA, continuity, RTF, CPU, beside the peers
``memory.py``      the most memory that each of them takes
``sizes.py``       what has to be installed for each of them
``fidelity.py``    streamed samples beside whole ones, and clicks at seams
``quality.py``     what judges say of each of them: words wrong, opinions
``growth.py``      TTFA and total against the length of the text
``streams.py``     how many streams play at once without a gap
``start.py``       importing the package, and a warm `TTS`
=================  ===========================================================================

Each of these parts has a ``measure`` that returns plain data. What they share lies in ``measure.py``
(in turn, ratios), ``machine.py`` (facts, the peak), ``texts.py`` and ``workers.py`` (a process for each
engine); ``targets.py`` says what was promised, ``public.py`` makes the public table of it, and ``report.py``
writes it all down.
"""
