"""Every distribution against its own probabilities: Kolmogorov-Smirnov and chi-square tests with fixed seeds.

The seeds were not chosen: each test passes unless something with a probability below 1e-4 happens.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

import symtensor
import symtensor.tensor as T
from symtensor.random import MRG_RandomStreams, RandomStream, RandomStreams

UNLIKELY = 1e-4


def sample(variable, calls=1):
    f = symtensor.function([], variable)
    return np.concatenate([np.atleast_1d(f()) for _ in range(calls)])


def check_counts(values, probabilities, first=0):
    """Chi-square test of integers that begin with ``first``; rare values are put together."""
    probabilities = np.asarray(probabilities, float)
    assert values.min() >= first
    assert values.max() < first + len(probabilities)
    counts = np.bincount((values - first).astype(int).ravel(), minlength=len(probabilities))
    expected = probabilities * values.size
    assert not counts[probabilities == 0].any()
    common = expected >= 10
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    if wanted[-1] < 10:
        assert observed[-1] <= wanted[-1] + 8 * np.sqrt(wanted[-1]) + 8
        observed, wanted = observed[:-1], wanted[:-1]
    if len(observed) == 1:
        assert observed[0] == values.size
        return
    result = stats.chisquare(observed, wanted * observed.sum() / wanted.sum())
    assert result.pvalue > UNLIKELY, (observed, wanted)


# Continuous -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(200_000,), (1000, 97)], ids=str)
def test_uniform(dtype, size):
    values = sample(RandomStreams(11).uniform(size, dtype=dtype), calls=2)
    assert values.dtype == dtype
    assert 0 <= values.min() < 1e-4 < 1 - 1e-4 < values.max() < 1
    assert stats.kstest(values.ravel(), "uniform").pvalue > UNLIKELY


def test_uniform_float16():
    values = sample(RandomStreams(11).uniform((100_000,), dtype="float16"))
    assert values.dtype == np.float16
    assert values.max() < 1
    check_counts(values * 2048, np.full(2048, 1 / 2048))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype):
    values = sample(RandomStreams(12).normal((200_000,), dtype=dtype), calls=2)
    assert values.dtype == dtype
    assert stats.kstest(values, "norm").pvalue > UNLIKELY
    tail = np.sort(np.abs(values))[-2000:]
    assert stats.kstest(tail, lambda z: 1 - stats.norm.sf(z) / stats.norm.sf(tail[0])).pvalue > UNLIKELY
    assert abs(stats.skew(values)) < 0.02
    assert abs(stats.kurtosis(values)) < 0.04


def test_normal_float16():
    assert stats.kstest(sample(RandomStreams(1).normal((2000,), dtype="float16")), "norm").pvalue > UNLIKELY


def test_location_and_scale():
    values = sample(RandomStreams(13).normal((50_000,), avg=-3.0, std=0.25))
    assert stats.kstest(values, stats.norm(-3, 0.25).cdf).pvalue > UNLIKELY
    values = sample(RandomStreams(13).uniform((50_000,), low=-3.0, high=5.0))
    assert stats.kstest(values, stats.uniform(-3, 8).cdf).pvalue > UNLIKELY


def test_parameters_that_broadcast():
    mean = np.array([0.0, 100.0, -50.0])
    values = sample(RandomStreams(14).normal((20_000, 3), avg=mean, std=np.array([1.0, 2.0, 3.0])))
    for column, (m, s) in enumerate(zip(mean, (1, 2, 3), strict=True)):
        assert stats.kstest(values[:, column], stats.norm(m, s).cdf).pvalue > UNLIKELY
    assert RandomStreams(1).normal(avg=mean).eval().shape == (3,)
    assert RandomStreams(1).uniform(low=mean[:, None], high=mean + 200).eval().shape == (3, 3)


# Independence ---------------------------------------------------------------------------------------------


def test_streams_are_independent():
    srng = RandomStreams(15)
    variables = [srng.normal((100_000,)) for _ in range(4)]
    values = symtensor.function([], variables)()
    for a, b in itertools.combinations(values, 2):
        assert stats.pearsonr(a, b).pvalue > UNLIKELY
    for v in values:
        for lag in (1, 2, 3, 4, 8, 32):
            assert stats.pearsonr(v[lag:], v[:-lag]).pvalue > UNLIKELY


def test_neighbouring_draws_and_seeds_are_independent():
    u = RandomStreams(16).uniform((50_000,))
    f = symtensor.function([], u)
    first, second = f(), f()
    other = RandomStreams(17).uniform((50_000,)).eval()
    for a, b in ((first, second), (first, other)):
        table = np.histogram2d(a, b, bins=16, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(table.ravel()).pvalue > UNLIKELY


# Integers -------------------------------------------------------------------------------------------------


def test_random_integers_include_both_ends():
    values = sample(RandomStreams(18).random_integers((100_000,), -3, 7))
    assert values.dtype == np.int64
    check_counts(values, np.full(11, 1 / 11), first=-3)


def test_integers_exclude_the_upper_end():
    values = sample(RandomStream(18).integers(5, size=(100_000,), dtype="int8"))
    assert values.dtype == np.int8
    check_counts(values, np.full(5, 0.2))
    check_counts(sample(RandomStreams(18).randint((50_000,), 10, 13)), np.full(3, 1 / 3), first=10)
    check_counts(sample(RandomStream(18).integers(0, 2, size=(50_000,), endpoint=True)), np.full(3, 1 / 3))


def test_integers_over_a_range_that_is_no_divisor_of_the_words():
    """Three quarters of 2^64: the thirds of the range are equally likely, which a plain remainder would miss."""
    values = sample(RandomStreams(19).random_integers((60_000,), 0, 3 * 2**61 - 1))
    check_counts(values // 2**61, np.full(3, 1 / 3))
    assert stats.kstest(values / (3 * 2**61), "uniform").pvalue > UNLIKELY


def test_all_integers():
    values = sample(RandomStreams(19).random_integers((60_000,), -(2**63), 2**63 - 1))
    assert stats.kstest((values / 2**64) + 0.5, "uniform").pvalue > UNLIKELY


def test_bounds_may_be_expressions():
    high = T.lvector("high")
    f = symtensor.function([high], RandomStreams(20).random_integers((30_000, 3), 1, high))
    values = f([1, 2, 6])
    for column, top in enumerate((1, 2, 6)):
        check_counts(values[:, column], np.full(top, 1 / top), first=1)


# Bernoulli and binomial -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool"])
@pytest.mark.parametrize("p", [0.5, 0.03, 0.999])
def test_bernoulli(p, dtype):
    values = sample(MRG_RandomStreams(21).binomial((100_000,), n=1, p=p, dtype=dtype))
    assert values.dtype == dtype
    check_counts(values.astype(int), [1 - p, p])


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_bernoulli_at_the_ends(dtype):
    srng = RandomStream(22)
    for p in (0.0, 1.0):
        assert (sample(srng.bernoulli(p, size=(10_000,), dtype=dtype)) == p).all()
    p = T.dvector("p")
    f = symtensor.function([p], srng.bernoulli(p, size=(5000, 3), dtype=dtype))
    np.testing.assert_array_equal(f([0.0, 1.0, 1.0]).mean(0), [0, 1, 1])


@pytest.mark.parametrize(
    ("n", "p"),
    [
        (1, 0.3), (3, 0.5), (10, 0.25), (19, 0.5), (20, 0.5), (100, 0.1), (100, 0.099), (100, 0.93), (1000, 0.5),
        (50_000, 0.001),
    ],
)  # fmt: skip
def test_binomial(n, p):
    variable = RandomStreams(23).binomial((100_000,), n=np.int64(n) if n > 1 else n, p=p)
    check_counts(sample(variable), stats.binom.pmf(np.arange(n + 1), n, p))


@pytest.mark.parametrize(("n", "p"), [(10**6, 0.3), (10**9, 1e-3), (10**12, 0.75)])
def test_binomial_of_many_trials(n, p):
    values = sample(RandomStreams(24).binomial((5000,), n=n, p=p))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(values))  # a continuous variable, for the test
    deviation = np.sqrt(n * p * (1 - p))
    assert stats.kstest((values + noise - n * p) / deviation, _smoothed(n, p, deviation)).pvalue > UNLIKELY


def _smoothed(n, p, deviation):
    def distribution(z):
        x = z * deviation + n * p + 0.5
        whole = np.floor(x)
        below = stats.binom.cdf(whole - 1, n, p)
        return below + (x - whole) * (stats.binom.cdf(whole, n, p) - below)

    return distribution


def test_binomial_parameters_broadcast():
    n, p = T.lvector("n"), T.dcol("p")
    f = symtensor.function([n, p], RandomStreams(25).binomial((2, 3), n=n, p=p))
    np.testing.assert_array_equal(f([4, 0, 9], [[0.0], [1.0]]), [[0, 0, 0], [4, 0, 9]])
    assert RandomStreams(25).binomial(n=np.array([3, 4]), p=0.5).eval().shape == (2,)


# Categories -----------------------------------------------------------------------------------------------

CHANCES = np.array([0.1, 0.0, 0.55, 0.3, 0.05, 0.0])


def test_categorical():
    check_counts(sample(RandomStream(26).categorical(CHANCES, size=(100_000,))), CHANCES)


def test_categorical_of_rows():
    rows = T.dmatrix("rows")
    f = symtensor.function([rows], RandomStream(26).categorical(rows))
    values = f(np.tile([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]], (20_000, 1)))
    assert values.shape == (40_000,)
    check_counts(values[::2], [0.2, 0.8, 0])
    assert (values[1::2] == 2).all()


def test_multinomial_of_one_draw_is_one_hot():
    rows = T.fmatrix("rows")
    f = symtensor.function([rows], MRG_RandomStreams(27).multinomial(pvals=rows, dtype="float32"))
    values = f(np.tile(CHANCES.astype("float32"), (50_000, 1)))
    assert values.dtype == np.float32
    assert (values.sum(1) == 1).all()
    check_counts(values.argmax(1), CHANCES)


def test_multinomial_of_many_draws():
    values = sample(RandomStreams(28).multinomial((20_000,), n=30, pvals=CHANCES))
    assert values.shape == (20_000, 6)
    assert (values.sum(1) == 30).all()
    for k, p in enumerate(CHANCES):
        check_counts(values[:, k], stats.binom.pmf(np.arange(31), 30, p))
    covariance = np.cov(values.T.astype(float))
    np.testing.assert_allclose(covariance, 30 * (np.diag(CHANCES) - np.outer(CHANCES, CHANCES)), atol=0.2)


def test_multinomial_of_rows_and_counts():
    n = T.lvector("n")
    f = symtensor.function([n], RandomStreams(28).multinomial(n=n, pvals=np.full((2, 4), 0.25)))
    np.testing.assert_array_equal(f([7, 100]).sum(1), [7, 100])


# Choice and order -----------------------------------------------------------------------------------------


def test_choice_with_replacement():
    srng = RandomStreams(29)
    check_counts(sample(srng.choice((50_000,), 7)), np.full(7, 1 / 7))
    check_counts(sample(srng.choice((50_000,), 6, p=CHANCES)), CHANCES)
    values = sample(srng.choice((1000,), a=np.array([0.5, 2.5])))
    assert set(values.tolist()) == {0.5, 2.5}


def test_choice_without_replacement():
    pairs = np.array([RandomStreams(seed).choice((2,), 4, replace=False).eval() for seed in range(20)])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    f = symtensor.function([], RandomStreams(30).choice((2,), 4, replace=False))
    values = np.array([f() for _ in range(12_000)])
    check_counts(values[:, 0] * 4 + values[:, 1], (1 - np.eye(4)).ravel() / 12)


def test_choice_without_replacement_with_probabilities():
    p = np.array([0.1, 0.2, 0.7])
    f = symtensor.function([], RandomStreams(31).choice((2,), 3, replace=False, p=p))
    values = np.array([f() for _ in range(12_000)])
    wanted = [0 if i == j else p[i] * p[j] / (1 - p[i]) for i in range(3) for j in range(3)]
    check_counts(values[:, 0] * 3 + values[:, 1], wanted)


def test_different_categories_of_rows():
    rows = np.tile([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]], (50, 1))
    values = MRG_RandomStreams(31).multinomial_wo_replacement(n=2, pvals=rows).eval()
    np.testing.assert_array_equal(np.sort(values, 1), np.tile([[0, 1], [2, 3]], (50, 1)))


def test_permutation():
    f = symtensor.function([], RandomStreams(32).permutation((3000,), n=4))
    values = np.concatenate([f() for _ in range(4)])
    assert values.shape == (12_000, 4)
    orders = {order: k for k, order in enumerate(itertools.permutations(range(4)))}
    check_counts(np.array([orders[tuple(v)] for v in values]), np.full(24, 1 / 24))


def test_permutation_of_elements():
    x = np.arange(12).reshape(6, 2)
    got = RandomStream(33).permutation(x).eval()
    np.testing.assert_array_equal(got[np.argsort(got[:, 0])], x)
    assert RandomStream(33).permutation(0).eval().shape == (0,)


def test_shuffled_rows():
    x = T.dmatrix("x")
    f = symtensor.function([x], RandomStreams(34).shuffle_row_elements(x))
    values = np.tile(np.arange(5.0), (5000, 1)) + 10 * np.arange(5000)[:, None]
    got = f(values)
    np.testing.assert_array_equal(np.sort(got, 1), values)
    for column in range(5):
        check_counts(got[:, column] - 10 * np.arange(5000), np.full(5, 0.2))
