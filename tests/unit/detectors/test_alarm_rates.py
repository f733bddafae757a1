"""Healthy readings raise alarms at the rate asked for: by each model, and by all together.

The statistics here are the test's own. They differ from those of one binomial count, and every
allowance has a reason:

- *Calibration is luck too.* A threshold with ``k = (n + 1) * rate`` of ``n`` calibration scores
  beyond it lets through a share of all readings that is not ``rate``, but Beta(k, n + 1 - k). The
  alarms among fresh readings are therefore beta-binomial. With k = 5 the share itself is uncertain
  by 45 %, however many fresh readings are counted.
- *Overlapping windows repeat each other.* A window of w rows shares rows with 2 (w - 1) others, so
  n windows calibrate no better than n / w separate ones. Fresh windows share no rows here.
- *One fit is not another.* Scores of the fits that calibrate stand in for scores of the fit that
  serves; forests, networks and supports differ by chance. ``FIT_TO_FIT`` is that chance, as a
  share of the rate; it does not fall with n.
- *A kernel is blind beyond its reach.* All rows out of reach of the support vectors have one score.
  Alarms come for all of them or for none, so the rate is out by up to their share.
- *Together, the models depend on each other.* The Cauchy combination gives the rate asked for where
  models are independent or identical, and a little more or less between (``TOGETHER``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from vigie.detectors.base import Detector, Floats
from vigie.detectors.calibration.combination import combine
from vigie.detectors.data.matrices import Table
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.trained import TrainedModel
from vigie.detectors.training import train

pytestmark = pytest.mark.slow

# About a hundred comparisons with two sides each: one false rejection in a million runs.
CHANCE = 5e-9
DEVIATIONS = 5.7
"""The same for a normal law."""
FIT_TO_FIT = 0.06
TOGETHER = (0.8, 1.2)
"""Rates of all together that are put down to dependence, as shares of the rate asked for.

By calculation for three models with Gaussian dependence the largest is 1.14; models whose ideas of
the most usual reading are opposite have less than 1, the more so the higher the rate.
"""
FRESH = 4000
WINDOW = 4
FOLDS = 5


# Machines


WORLDS: dict[str, Callable[[np.random.Generator, Floats, Floats], Floats]] = {
    "correlated": lambda rng, rows, at: rows,
    "log-normal": lambda rng, rows, at: np.exp(0.7 * rows),
    "operating points": lambda rng, rows, at: (
        at[rng.choice(4, p=[0.5, 0.3, 0.15, 0.05], size=len(rows))] + 0.5 * rows
    ),
    "heavy tails": lambda rng, rows, at: rows / np.sqrt(rng.chisquare(3, (len(rows), 1)) / 3),
    "skewed and dull": lambda rng, rows, at: np.column_stack([rows[:, :1] ** 2, rows[:, 1:]]),
}


@dataclass(frozen=True)
class Machine:
    """Where healthy rows come from; they are independent of each other."""

    world: str
    n_features: int
    seed: int

    def rows(self, n: int, draw: int) -> Floats:
        own = np.random.default_rng(self.seed)
        size = (self.n_features, self.n_features)
        mixing = np.eye(self.n_features) + own.normal(size=size) / np.sqrt(self.n_features)
        points = 4.0 * own.normal(size=(4, self.n_features))
        rng = np.random.default_rng([self.seed, draw])
        return WORLDS[self.world](rng, rng.normal(size=(n, self.n_features)) @ mixing, points)

    def table(self, n: int) -> Table:
        names = tuple(f"sensor_{i}" for i in range(self.n_features))
        return Table(self.rows(n, draw=1), names)

    def fresh(self, n: int = FRESH) -> Floats:
        """Return windows without a common row, shape (n, WINDOW, n_features)."""
        return self.rows(n * WINDOW, draw=2).reshape(n, WINDOW, self.n_features)


machines = st.builds(Machine, st.sampled_from(list(WORLDS)), st.integers(2, 6), st.integers(0, 999))
contaminations = st.floats(-3.0, np.log10(0.2)).map(lambda decades: 10.0**decades)
few_rows = st.floats(2.0, 3.5).map(lambda decades: round(10.0**decades))
rows_up_to_10_000 = st.floats(2.0, 4.0).map(lambda decades: round(10.0**decades))


# Models


def forest(n: int) -> Detector:
    return IsolationForest(30, "auto", 0.01, random_state=n)


def support(n: int) -> Detector:
    # The solver's time grows with the square of the number of support vectors, nu * n.
    return OneClassSVM(min(0.5, 150 / n), "rbf", "scale", 0.01)


def network(n: int) -> Detector:
    # Cut short while the loss still falls: fits that see a fifth less stay behind, as they do in
    # a long training, and calibration has to make up for it.
    return LSTMAutoencoder((8,), (8,), WINDOW, max(64, n // 32), 4, 0.05, random_state=n)


BY_ROW = {"isolation_forest": forest, "one_class_svm": support}
MODELS = BY_ROW | {"lstm_autoencoder": network}


def trained(
    make: Callable[[int], Detector],
    machine: Machine,
    n: int,
    contamination: float,
    time_ordered: bool = True,
) -> TrainedModel:
    return train(
        make(n),
        machine.table(n),
        threshold=1.0 - contamination,
        folds=FOLDS,
        time_ordered=time_ordered,
        random_state=machine.seed,
    )


def examples(model: TrainedModel, windows: Floats) -> Floats:
    return windows if model.window > 1 else windows[:, -1]


def alarms(model: TrainedModel, windows: Floats) -> int:
    # By p-value: `predict` would join rows of separate windows.
    return int((1.0 - model.p_values(examples(model, windows)) > model.threshold).sum())


def separate_scores(model: TrainedModel) -> float:
    """Return how many calibration scores there would be, had no two of them a common row."""
    return model.calibration.n_samples / model.window


def out_of_reach(model: TrainedModel, windows: Floats) -> float:
    """Return the share of readings that score like one infinitely far away."""
    if model.algorithm != "one_class_svm":
        return 0.0
    raw = model.raw_scores(windows[:, -1])
    [farthest] = model.raw_scores(np.full((1, model.n_features), 1e9))
    return float((raw > farthest - 0.02 * (farthest - np.median(raw))).mean())


# Statistics


def effective(calibrating: float, rate: float) -> tuple[float, float]:
    """Return the parameters of the beta law of the share beyond a threshold."""
    k = (calibrating + 1.0) * rate
    k = 1.0 / (1.0 / k + FIT_TO_FIT**2)
    return k, k * (1.0 - rate) / rate


def is_by_chance(hits: int, trials: int, calibrating: float, low: float, high: float) -> bool:
    """Whether so many hits may come of a rate between ``low`` and ``high``."""
    few = low > 0 and betabinom.cdf(hits, trials, *effective(calibrating, low)) < CHANCE
    many = high < 1 and betabinom.sf(hits - 1, trials, *effective(calibrating, high)) < CHANCE
    return not (few or many)


def ratio_variance(calibrating: float, rate: float, trials: int) -> float:
    """Return the variance of alarms, as a share of those expected."""
    k, rest = effective(calibrating, rate)
    total = k + rest
    return (1.0 - rate) / (trials * rate) * (total + trials) / (total + 1.0)


@pytest.mark.parametrize(("n", "rate"), [(49, 0.1), (200, 0.05), (2000, 0.01)])
def test_the_statistics_themselves_fit_a_perfect_calibration(n, rate):
    rng, trials = np.random.default_rng(1), 2000
    shares = rng.beta((n + 1) * rate, (n + 1) * (1 - rate), size=trials)
    hits = rng.binomial(FRESH, shares)
    assert all(is_by_chance(hit, FRESH, n, rate, rate) for hit in set(hits.tolist()))
    spread = (hits / (FRESH * rate)).var()
    assert 0.8 < spread / ratio_variance(n, rate, FRESH) < 1.2
    for wrong in (0, FRESH):
        assert not is_by_chance(wrong, FRESH, 100 * n, rate, rate)


# One training


def too_few(n: int, contamination: float, window: int) -> bool:
    """Whether n rows leave fewer than one separate score beyond the threshold."""
    scores = n if window == 1 else n - FOLDS * (window - 1)
    return contamination < window / (scores + 1)


def says_so(caplog: pytest.LogCaptureFixture) -> bool:
    return any("the false-alarm rate" in line and "is a guess" in line for line in caplog.messages)


def holds(
    make: Callable[[int], Detector],
    machine: Machine,
    n: int,
    contamination: float,
    time_ordered: bool,
    caplog: pytest.LogCaptureFixture,
) -> bool:
    """Whether the rate is the one asked for, or training says that it cannot know."""
    caplog.clear()
    model = trained(make, machine, n, contamination, time_ordered)
    assert says_so(caplog) == too_few(n, contamination, model.window)
    if says_so(caplog):
        return True
    windows = machine.fresh()
    blind = out_of_reach(model, windows)
    return is_by_chance(
        alarms(model, windows),
        FRESH,
        separate_scores(model),
        contamination - blind,
        contamination + blind,
    )


def some(examples: int) -> settings:
    return settings(
        derandomize=True,
        deadline=None,
        max_examples=examples,
        # A smaller counter-example would cost minutes of training, and these are small already.
        phases=(Phase.explicit, Phase.generate),
        # Each example clears what it finds.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("make", BY_ROW.values(), ids=BY_ROW)
@some(6)
@given(machines, rows_up_to_10_000, contaminations, st.booleans())
# Few support vectors and a high rate: fits agree on what is odd, and hardly on what is in between.
@example(Machine("heavy tails", 2, 5), 3000, 0.2, True)
@example(Machine("correlated", 2, 4), 9000, 0.2, True)
def test_a_model_of_rows_raises_alarms_at_the_rate_asked_or_training_says_it_cannot(
    make, caplog, machine, n, contamination, time_ordered
):
    assert holds(make, machine, n, contamination, time_ordered, caplog)


@pytest.mark.parametrize(
    ("make", "world", "contamination"),
    [
        pytest.param(forest, "operating points", 0.002, id="isolation_forest"),
        pytest.param(support, "correlated", 0.005, id="one_class_svm"),
    ],
)
def test_the_rate_holds_for_a_hundred_thousand_rows(make, world, contamination, caplog):
    assert holds(make, Machine(world, 3, 5), 100_000, contamination, True, caplog)


@some(6)
@given(machines, few_rows, contaminations, st.booleans())
def test_a_model_of_windows_raises_alarms_at_the_rate_asked_or_training_says_it_cannot(
    caplog, machine, n, contamination, time_ordered
):
    assert holds(network, machine, n, contamination, time_ordered, caplog)


@some(5)
@given(machines, few_rows, contaminations)
def test_all_models_together_raise_alarms_at_the_rate_asked(machine, n, contamination):
    models = [trained(make, machine, n, contamination) for make in MODELS.values()]
    if any(too_few(n, contamination, model.window) for model in models):
        return
    windows = machine.fresh()
    p = combine(np.stack([model.p_values(examples(model, windows)) for model in models]))
    low, high = (contamination * share for share in TOGETHER)
    blind = max(out_of_reach(model, windows) for model in models)
    assert is_by_chance(
        int((p < contamination).sum()),
        FRESH,
        min(separate_scores(model) for model in models),
        low - blind,
        high + blind,
    )


# Many trainings: what is wrong on average shows here, where luck cancels out


MANY = tuple(Machine(world, 3, seed) for seed in range(2) for world in WORLDS)
MANY_ROWS = 2000


@pytest.fixture(scope="module")
def many() -> dict[str, list[tuple[TrainedModel, Floats]]]:
    """Models of several machines, with their p-values of fresh readings."""
    found: dict[str, list[tuple[TrainedModel, Floats]]] = {name: [] for name in MODELS}
    for number, machine in enumerate(MANY):
        windows = machine.fresh()
        for name, make in MODELS.items():
            # A row more each time, and so a seed of its own: one's luck must not count for all.
            model = trained(make, machine, MANY_ROWS + number, 0.1)
            found[name].append((model, model.p_values(examples(model, windows))))
    return found


@pytest.mark.parametrize("rate", [0.1, 0.2])
@pytest.mark.parametrize("name", MODELS)
def test_over_many_trainings_a_model_raises_alarms_at_the_rate_asked(many, name, rate):
    ratios = [(p < rate).mean() / rate for _, p in many[name]]
    variance = np.mean(
        [ratio_variance(separate_scores(model), rate, FRESH) for model, _ in many[name]]
    )
    assert abs(np.mean(ratios) - 1.0) < DEVIATIONS * np.sqrt(variance / len(ratios))


@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_over_many_trainings_all_together_raise_alarms_at_the_rate_asked(many, rate):
    answers = zip(*([p for _, p in models] for models in many.values()), strict=True)
    ratios = [(combine(np.stack(p)) < rate).mean() / rate for p in answers]
    separate = min(separate_scores(model) for models in many.values() for model, _ in models)
    slack = DEVIATIONS * np.sqrt(ratio_variance(separate, rate, FRESH) / len(ratios))
    low, high = TOGETHER
    assert low - slack < np.mean(ratios) < high + slack


# Too few rows for the rate asked


def border(n: int, window: int) -> Iterator[tuple[float, bool]]:
    """Yield contaminations around the lowest that n rows can show, and whether they are below."""
    scores = n if window == 1 else n - FOLDS * (window - 1)
    lowest = window / (scores + 1)
    yield from ((lowest * share, share < 1) for share in (0.1, 0.99, 1.01, 5.0))


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_training_says_when_rows_are_too_few_for_the_rate_and_only_then(make, n, caplog):
    machine = Machine("correlated", 2, 3)
    for contamination, below in border(n, make(n).window):
        if contamination >= 0.5:
            continue
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            trained(make, machine, n, contamination)
        assert says_so(caplog) == below
