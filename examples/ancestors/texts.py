"""The datasource of the examples, and a mapfn for its words."""

from pathlib import Path
from string import digits, punctuation


class Texts:
    """A datasource of files: only names are kept, and each text is read when it is asked for."""

    def __init__(self, pattern):
        self.names = sorted(map(str, Path(__file__).with_name("texts").glob(pattern)))

    def __iter__(self):
        return iter(self.names)

    def __getitem__(self, name):
        return Path(name).read_text(encoding="utf-8")


def words(name, text):
    """A mapfn: emits each word once for each time that the text has it; 'it's' is one word."""
    for word in text.lower().replace("--", " ").split():
        if word := word.strip(punctuation + digits):
            yield word, 1


def total(word, counts):
    """A collectfn, reducefn or finishfn: adds up counts."""
    return sum(counts)
