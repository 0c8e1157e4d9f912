"""Runs contestants in shuffled rounds, and compares them."""
import random
import time
from dataclasses import dataclass, field

from .command import Failed, median


@dataclass
class Contestant:
    """One tool with one set of flags."""

    name: str
    run: callable
    # The command or settings, as the report prints them.
    how: str = ""


@dataclass
class Ratio:
    """A quotient of two contestants' figures, or of one figure and a fixed bound."""

    text: str
    metric: str
    of: str
    to: object = None  # names of contestants whose figures are added; a number; or None for the figure itself
    at_most: float = None
    at_least: float = None
    to_metric: str = None


@dataclass
class Row:
    """Result of one row."""

    name: str
    title: str
    settings: dict = field(default_factory=dict)
    columns: list = field(default_factory=list)
    samples: dict = field(default_factory=dict)
    how: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    ratios: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    curves: list = field(default_factory=list)

    def contest(self, contestants, rounds, warm_up=True):
        """Runs every contestant once in each round, in a new order each time."""
        order = random.Random(self.name)
        for contestant in contestants:
            self.how[contestant.name] = contestant.how
            self.samples.setdefault(contestant.name, [])
        # A short run has no time for it.
        if warm_up and rounds > 2:
            for contestant in contestants:
                self.attempt(contestant, keep=False)
        for n in range(rounds):
            order.shuffle(contestants)
            for contestant in contestants:
                self.attempt(contestant)
            print(f"  {self.name}: round {n + 1} of {rounds}", flush=True)

    def attempt(self, contestant, keep=True):
        try:
            sample = contestant.run()
        except (Failed, OSError, AssertionError) as error:
            # Every round has an entry for everyone, so that figures of one round can be compared.
            sample = None
            self.failures.setdefault(contestant.name, []).append(str(error)[:300])
            print(f"  {self.name}: {contestant.name}: {error}", flush=True)
        if keep:
            self.samples[contestant.name].append(sample)

    def figures(self, name, metric):
        return [sample[metric] for sample in self.samples.get(name, []) if sample and metric in sample]

    def median(self, name, metric):
        figures = self.figures(name, metric)
        return median(figures) if figures else None

    def compare(self, ratio):
        """Adds a ratio: the median over the rounds of the quotient within a round, as the machine's speed varies."""
        quotients, names = [], [ratio.to] if isinstance(ratio.to, str) else ratio.to
        mine = self.samples.get(ratio.of, [])
        for n, sample in enumerate(mine):
            if not sample or ratio.metric not in sample:
                continue
            if names is None or isinstance(names, (int, float)):
                quotients.append(sample[ratio.metric] / (names or 1))
                continue
            others = [self.samples.get(name, []) for name in names]
            if any(len(other) <= n or not other[n] for other in others):
                continue
            divisor = sum(other[n][ratio.to_metric or ratio.metric] for other in others)
            if divisor:
                quotients.append(sample[ratio.metric] / divisor)
        value = median(quotients) if quotients else None
        hit = None
        if value is not None and (ratio.at_most is not None or ratio.at_least is not None):
            hit = (ratio.at_most is None or value <= ratio.at_most) and (ratio.at_least is None or value >= ratio.at_least)
        self.ratios.append(
            {"text": ratio.text, "value": value, "at_most": ratio.at_most, "at_least": ratio.at_least, "hit": hit, "rounds": len(quotients)}
        )

    def as_json(self):
        medians = {
            name: {metric: self.median(name, metric) for metric in {key for s in samples if s for key in s}}
            for name, samples in self.samples.items()
        }
        return {**self.__dict__, "medians": medians, "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
