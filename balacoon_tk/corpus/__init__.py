"""Whole corpora: many sentences by many voices, in many processes or on many machines.

======================  =====================================================
file                    holds
======================  =====================================================
``sentences.py``        what is to be said, from the lists that researchers have
``choices.py``          what may be asked for
``plan.py``             all that the results depend on, and how the work is cut
``voices.py``           which voice, precision, engine and frontend speak
``journal.py``          what is done of a batch, so that it goes on where it was stopped
``speaker.py``          what a worker does, wherever it runs
``files.py``            an utterance's audio and TextGrid
``local.py``            workers as processes of this machine; ``worker.py`` is one
``on_ray.py``           workers as actors of Ray Data
``manifest.py``         the Parquet files
``report.py``           figures, and a picture of them
``making.py``           all of it, in order
======================  =====================================================
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.corpus.errors import CorpusError
    from balacoon_tk.corpus.making import CorpusProgress, make_corpus
    from balacoon_tk.corpus.report import CorpusReport
    from balacoon_tk.corpus.sentences import CorpusSentence, read_corpus_sentences

__all__ = [
    "CorpusError",
    "CorpusProgress",
    "CorpusReport",
    "CorpusSentence",
    "make_corpus",
    "read_corpus_sentences",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "errors": ("CorpusError",),
        "making": ("CorpusProgress", "make_corpus"),
        "report": ("CorpusReport",),
        "sentences": ("CorpusSentence", "read_corpus_sentences"),
    },
)
