"""What the default run asks of each mode and dtype: everything where that is cheap, else a choice that covers it all.

A mode of a driver's ``COMPILED`` pays for each program, and a row in another mode or dtype is another program. So each
row runs in the first such mode, in its first dtype. All other pairs of mode and dtype run the rows that share a program
with many others, and their part of the rest (of half of it, where eager modes are cheap); what kinds of rows a mode
would not meet at all are added. The whole product is run by ``pytest --full``.
"""

from collections import defaultdict

from seqloss.testing import frameworks


def chosen(driver, pairs, rows, kind, shared=()):
    """The rows of each (mode, dtype): a dict of lists, in the order of ``rows``.

    Parameters
    ----------
    pairs
        Every (mode, dtype) of the driver, in order.
    rows
        What is asked; hashable.
    kind
        A function that says what a row is about.
    shared
        The rows that are cheap in every pair.
    """
    # A framework with a QUICK compiler compiles eager code as well.
    costly = [pair for pair in pairs if driver.QUICK or pair[0] in driver.COMPILED]
    first, *others = sorted(costly, key=lambda pair: pair[0] != driver.COMPILED[0]) or [None]
    picked = {pair: set(rows) for pair in pairs if pair == first or pair not in costly}
    rest = [row for row in rows if row not in shared]
    # Where nothing but compiled modes compiles, eager modes have met the rest in each dtype: half of it is asked again.
    step = len(others) if driver.QUICK else 2 * len(others)
    for i, pair in enumerate(others):
        picked[pair] = {*shared, *rest[i::step]}
    of_kind, of_mode = defaultdict(list), defaultdict(list)
    for row in rows:
        of_kind[kind(row)].append(row)
    for pair in pairs:
        of_mode[pair[0]].append(pair)
    for turn, own in enumerate(of_mode.values()):
        met = {kind(row) for pair in own for row in picked[pair]}
        # Another one in each mode, where there are several of a kind.
        picked[own[0]] |= {few[turn % len(few)] for name, few in of_kind.items() if name not in met}
    return {pair: [row for row in rows if row in picked[pair]] for pair in pairs}


def in_modes(config, modes, rows):
    """Every (framework, mode, row) of a run in float32: a choice of the modes of a driver that ``modes`` gives."""
    for name in config.getoption("--backends").split(","):
        driver = frameworks.load(name)
        pairs = [(mode, "float32") for mode in modes(driver)]
        every = (
            dict.fromkeys(pairs, rows) if config.getoption("--full") else chosen(driver, pairs, rows, lambda row: None)
        )
        yield from ((name, mode, row) for (mode, _), few in every.items() for row in few)
