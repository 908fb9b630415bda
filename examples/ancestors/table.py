"""Counted words in two columns: by name on the left, by count on the right."""


def print_table(counts):
    """All of them."""
    _print_rows(sorted(counts), sorted(counts, key=lambda word: (counts[word], word)), counts)


def print_top(txn, counts, least=100):
    """At least that many of the most frequent words: all that are as frequent as the last one."""
    print(f"Transaction {txn}; top {least} of {len(counts)} results:")
    rare_first = sorted(counts, key=lambda word: (counts[word], word))
    lowest_count = min((counts[word] for word in rare_first[-least:]), default=0)
    top = [word for word in rare_first if counts[word] >= lowest_count]
    _print_rows(sorted(top, reverse=True), top, counts)


def _print_rows(left, right, counts):
    for left_word, right_word in zip(left, right, strict=True):
        print(f"{counts[left_word]:8} {left_word:40.40} {counts[right_word]:8} {right_word}")
