"""What gives the phonemes of a sentence: espeak-ng, gruut, letters, and what Piper has for some languages."""
