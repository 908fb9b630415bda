"""What the examples read, and the words in it."""

from pathlib import Path
from string import digits, punctuation


class Texts:
    """A datasource: names and, when its turn comes, the text of each. Only names are kept."""

    def __init__(self, pattern):
        self.names = sorted(map(str, Path(__file__).with_name("texts").glob(pattern)))

    def __iter__(self):
        return iter(self.names)

    def __getitem__(self, name):
        return Path(name).read_text(encoding="utf-8")


def words(name, text):
    """A mapfn: each word once for each time it stands there, as in 'it's' with what hangs on it."""
    for word in text.lower().replace("--", " ").split():
        if word := word.strip(punctuation + digits):
            yield word, 1


def total(word, counts):
    """A collectfn, reducefn or finishfn."""
    return sum(counts)
