"""What stands in a text beside what is said: Markdown and SSML, as transducers before the cleaner."""
