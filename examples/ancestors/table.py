"""Print counted words in two columns: by name on the left, by count on the right."""


def print_table(counts):
    """Print all words."""
    _print_rows(sorted(counts), sorted(counts, key=lambda word: (counts[word], word)), counts)


def print_top(txn, counts, least=100):
    """Print the ``least`` most frequent words, and all that are as frequent as the last of them."""
    print(f"Transaction {txn}; top {least} of {len(counts)} results:")
    rare_first = sorted(counts, key=lambda word: (counts[word], word))
    lowest_count = min((counts[word] for word in rare_first[-least:]), default=0)
    top = [word for word in rare_first if counts[word] >= lowest_count]
    _print_rows(sorted(top, reverse=True), top, counts)


def _print_rows(left, right, counts):
    for left_word, right_word in zip(left, right, strict=True):
        print(f"{counts[left_word]:8} {left_word:40.40} {counts[right_word]:8} {right_word}")
