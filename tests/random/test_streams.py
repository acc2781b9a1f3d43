"""Streams: NumPy's numbers, what moves them on, and how they are saved, copied and shared."""

import copy
import importlib
import pickle

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor.random import MRG_RandomStreams, RandomStateVariable, RandomStream, RandomStreams, random_state
from symtensor_codegen.llvm.threads import get_num_threads, set_num_threads


def numpy_stream(seed, number=0):
    return np.random.Generator(np.random.Philox(seed).jumped(number))


# NumPy's numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(), (1,), (7,), (1000,), (3, 5), (2, 3, 4), (4, 1, 3), (0, 3)], ids=str)
def test_uniform_is_numpys_over_consecutive_calls(size):
    srng = RandomStreams(234)
    f = symtensor.function([], srng.uniform(size))
    generator = numpy_stream(234)
    for _ in range(4):
        np.testing.assert_array_equal(f(), generator.random(size))


def test_uniform_float32_is_numpys_where_the_count_is_even():
    f = symtensor.function([], RandomStreams(5).uniform((37, 2), dtype="float32"))
    generator = numpy_stream(5)
    for _ in range(3):
        np.testing.assert_array_equal(f(), generator.random((37, 2), dtype=np.float32))


def test_float32_leaves_half_a_word_where_the_count_is_odd():
    f = symtensor.function([], RandomStreams(5).uniform((3,), dtype="float32"))
    generator = numpy_stream(5)
    for _ in range(3):
        np.testing.assert_array_equal(f(), generator.random(4, dtype=np.float32)[:3])


def test_variable_number_i_is_the_stream_jumped_to_i():
    srng = RandomStreams(99)
    variables = [srng.uniform((11,)) for _ in range(4)]
    f = symtensor.function([], variables)
    generators = [numpy_stream(99, i) for i in range(4)]
    for _ in range(2):
        for got, generator in zip(f(), generators, strict=True):
            np.testing.assert_array_equal(got, generator.random(11))


def test_uniform_between_bounds_is_numpys_formula():
    low, high = np.array([1.0, -2.0, 0.5]), np.array([2.0, 5.0, 0.75])
    got = RandomStreams(1).uniform(low=low, high=high).eval()
    np.testing.assert_allclose(got, low + (high - low) * numpy_stream(1).random(3), rtol=1e-15)


def test_sizes_may_be_symbolic():
    x, n = T.dmatrix("x"), T.lscalar("n")
    srng = RandomStreams(3)
    f = symtensor.function([x, n], [srng.uniform(x.shape), srng.uniform((n, x.shape[1] + 1))])
    first, second = numpy_stream(3), numpy_stream(3, 1)
    for rows, count in ((2, 5), (4, 0), (1, 3)):
        a, b = f(np.zeros((rows, 3)), count)
        np.testing.assert_array_equal(a, first.random((rows, 3)))
        np.testing.assert_array_equal(b, second.random((count, 4)))


def test_a_size_vector_of_unknown_length_needs_ndim():
    size = T.lvector("size")
    srng = RandomStreams(3)
    f = symtensor.function([size], srng.uniform(size, ndim=2))
    assert f([2, 4]).shape == (2, 4)
    with pytest.raises(ValueError, match="ndim="):
        srng.uniform(size)


# What moves a stream on -----------------------------------------------------------------------------------


def test_one_variable_is_one_draw_and_two_are_two():
    srng = RandomStreams(7)
    u, v = srng.uniform((5,)), srng.uniform((5,))
    same, different = symtensor.function([], [u - u, u - v])()
    assert not same.any()
    assert (different != 0).all()


def test_draws_with_equal_arguments_are_never_merged():
    f = symtensor.function([], [RandomStreams(7).uniform((5,)), RandomStreams(7).uniform((5,)) + 1])
    first, second = f()  # streams of two sources with one seed: equal numbers, but two states
    np.testing.assert_array_equal(first + 1, second)
    assert len([s for s in f.get_shared() if isinstance(s, RandomStateVariable)]) == 2


def test_no_default_updates():
    srng = RandomStreams(7)
    u, v = srng.uniform((2,)), srng.uniform((2,))
    frozen = symtensor.function([], [u, v], no_default_updates=True)
    np.testing.assert_array_equal(frozen(), frozen())
    partly = symtensor.function([], [u, v], no_default_updates=[u.rng])
    (a, b), (c, d) = partly(), partly()
    np.testing.assert_array_equal(a, c)
    assert (b != d).all()


def test_updates_may_be_given_instead():
    srng = RandomStreams(7)
    u = srng.uniform((2,))
    assert srng.updates() == srng.state_updates == [u.update]
    f = symtensor.function([], u, updates=srng.updates(), no_default_updates=True)
    assert (f() != f()).all()
    assert u.rng.default_update is u.update[1]


def test_functions_share_a_stream():
    u = RandomStreams(7).uniform((2,))
    f, g = symtensor.function([], u), symtensor.function([], 2 * u)
    generator = numpy_stream(7)
    for h, factor in ((f, 1), (g, 2), (f, 1)):
        np.testing.assert_array_equal(h(), factor * generator.random(2))


def test_default_updates_follow_givens():
    """How far a stream moves on depends on a size that ``givens`` replaces."""
    x, i = T.dmatrix("x"), T.lscalar("i")
    data = symtensor.shared(np.ones((10, 4)))
    mask = RandomStreams(2).uniform(x.shape)
    f = symtensor.function([i], x * mask, givens={x: data[:i]})
    generator = numpy_stream(2)
    for rows in (3, 1, 2):
        np.testing.assert_array_equal(f(rows), generator.random((rows, 4)))


def test_a_failing_call_does_not_move_the_stream():
    x = T.dvector("x")
    u = RandomStreams(2).uniform((3,))
    f = symtensor.function([x], u + x)
    with pytest.raises(ValueError, match="size"):
        f(np.zeros(4))
    np.testing.assert_array_equal(f(np.zeros(3)), numpy_stream(2).random(3))


def test_eval_draws_anew():
    u = RandomStreams(2).normal((3,))
    assert (u.eval() != u.eval()).all()


# Seeds and states -----------------------------------------------------------------------------------------


def test_seed_begins_all_streams_again():
    srng = RandomStreams(7)
    f = symtensor.function([], [srng.uniform((2,)), srng.uniform((2,))])
    first = f()
    f()
    srng.seed(7)
    np.testing.assert_array_equal(f(), first)
    srng.seed(8)
    np.testing.assert_array_equal(f()[1], numpy_stream(8, 1).random(2))
    srng.seed()
    np.testing.assert_array_equal(f()[1], numpy_stream(8, 1).random(2))
    np.testing.assert_array_equal(srng.uniform((2,)).eval(), numpy_stream(8, 2).random(2))


def test_without_a_seed_streams_differ():
    first, second = RandomStreams(), RandomStreams()
    assert first.default_instance_seed != second.default_instance_seed
    assert (first.uniform((3,)).eval() != second.uniform((3,)).eval()).all()


def test_theanos_way_to_seed_one_stream():
    u = RandomStreams(7).uniform((2,))
    state = u.rng.get_value(borrow=True)
    state.seed(123)
    u.rng.set_value(state, borrow=True)
    np.testing.assert_array_equal(u.eval(), numpy_stream(123).random(2))
    u.rng.seed(5)
    np.testing.assert_array_equal(u.eval(), numpy_stream(5).random(2))


def test_state_is_saved_and_restored():
    srng = RandomStreams(7)
    u = srng.uniform((3,))
    f = symtensor.function([], u)
    f()
    saved = [state.get_value() for state, _ in srng.state_updates]
    np.testing.assert_array_equal(saved[0][2:], [0, 3])
    following = [f(), f()]
    u.rng.set_value(saved[0])
    np.testing.assert_array_equal([f(), f()], following)


def test_states_go_to_numpy_and_back():
    u = RandomStreams(7).uniform((3,))
    u.eval()
    generator = u.rng.get_value().generator()
    np.testing.assert_array_equal(u.eval(), generator.random(3))
    generator.random(6)
    u.rng.set_value(generator)
    np.testing.assert_array_equal(u.eval(), generator.random(3))
    bits = np.random.Philox(11).jumped(4)
    u.rng.set_value(bits)
    np.testing.assert_array_equal(u.eval(), np.random.Generator(bits).random(3))


def test_states_that_are_none_are_refused():
    state = random_state(1)
    with pytest.raises(TypeError, match="Philox"):
        state.set_value(np.random.Generator(np.random.PCG64(1)))
    with pytest.raises(ValueError, match="beyond"):
        state.set_value(np.random.Philox(1).advance(2**64))
    with pytest.raises(ValueError, match="size 4"):
        state.set_value(np.zeros(3, np.uint64))


# Copies ---------------------------------------------------------------------------------------------------


def test_pickled_function_goes_on_where_it_was():
    u = RandomStreams(7).normal((3,))
    f = symtensor.function([], u)
    f()
    g = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal([f(), f()], [g(), g()])


def test_pickled_variable_still_moves_on():
    u = pickle.loads(pickle.dumps(RandomStreams(7).uniform((3,)) * 2))
    f = symtensor.function([], u)
    generator = numpy_stream(7)
    for _ in range(2):
        np.testing.assert_array_equal(f(), 2 * generator.random(3))


def test_pickled_streams():
    srng = RandomStreams(7)
    u = srng.uniform((3,))
    loaded, v = pickle.loads(pickle.dumps((srng, u)))
    np.testing.assert_array_equal(u.eval(), v.eval())
    assert v.rng is loaded.state_updates[0][0]
    loaded.seed(1)
    np.testing.assert_array_equal(v.eval(), numpy_stream(1).random(3))


def test_copied_states():
    state = RandomStreams(7).uniform((3,)).rng
    for copied in (copy.copy(state), copy.deepcopy(state)):
        assert copied.default_update is not state.default_update
        assert copied in symtensor.function([], copied.default_update).get_shared()
    assert copy.copy(state).cell is state.cell
    assert copy.deepcopy(state).cell is not state.cell


def test_copied_function():
    u = RandomStreams(7).uniform((3,))
    f = symtensor.function([], u)
    g = f.copy()
    generator = numpy_stream(7)
    for h in (f, g, f):
        np.testing.assert_array_equal(h(), generator.random(3))
    other = random_state(21)
    swapped = f.copy(swap={u.rng: other})
    np.testing.assert_array_equal(swapped(), numpy_stream(21).random(3))
    np.testing.assert_array_equal(f(), generator.random(3))


# One meaning ----------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


def test_any_number_of_threads_gives_the_same_numbers(threads):
    srng = RandomStreams(7)
    n = 300_001
    variables = [
        srng.uniform((n,)), srng.normal((n,)), srng.normal((n,), dtype="float32"), srng.uniform((n,)).sum(),
        srng.random_integers((n,), 0, 1000), srng.binomial((30_000,), n=40, p=0.4), srng.uniform((3, 100_003)) * 2,
    ]  # fmt: skip
    f = symtensor.function([], variables)
    results = []
    for count in (1, 2, 3):
        threads(count)
        srng.seed(7)
        results.append(f())
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mode", ["reference", "fast_compile", "debug"])
def test_modes_agree(mode):
    def results(mode):
        srng = RandomStreams(31)
        x = T.dmatrix("x")
        drawn = [
            srng.uniform((3, 5)), srng.normal((9,), 1.0, 2.0), srng.binomial(x.shape, p=0.3),
            srng.binomial((6,), n=50, p=0.2), srng.multinomial(n=20, pvals=[0.2, 0.3, 0.5]), srng.permutation(n=7),
            srng.choice((4,), 9, p=np.full(9, 1 / 9)), srng.choice((4,), 9, False),
            srng.random_integers((5,), -2, 2), srng.shuffle_row_elements(x),
            srng.choice((2,), 4, False, [0.1, 0.2, 0.3, 0.4]), srng.normal((7,), dtype="float32"),
        ]  # fmt: skip
        f = symtensor.function([x], drawn, mode=mode)
        return [*f(np.arange(6.0).reshape(2, 3)), *f(np.arange(8.0).reshape(2, 4))]

    for got, want in zip(results(mode), results("fast_run"), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_draws_are_computed_inside_the_loops_of_their_users():
    x = T.dvector("x")
    f = symtensor.function([x], (x * RandomStreams(1).normal(x.shape)).sum())
    drawing = [k for k in f.source("loops").split("\nkernel") if "normal_quantile" in k]
    assert len(drawing) == 1
    assert "add(" in drawing[0]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("symtensor.tensor.shared_randomstreams", "RandomStreams"),
        ("symtensor.sandbox.rng_mrg", "MRG_RandomStreams"),
        ("symtensor.tensor.random.utils", "RandomStream"),
    ],
)
def test_theanos_and_pytensors_modules(module, name):
    srng = getattr(importlib.import_module(module), name)(1)
    assert srng.normal(size=(3,)).eval().shape == (3,)


def test_mrg_begins_with_a_seed_of_its_own():
    assert MRG_RandomStreams().default_instance_seed == 12345
    srng = MRG_RandomStreams(3)
    u = srng.uniform(size=(2,), nstreams=4)
    srng.set_rstate(9)
    np.testing.assert_array_equal(u.eval(), numpy_stream(9).random(2))


def test_pytensors_argument_order():
    srng = RandomStream(3)
    x = srng.normal([10.0, 20.0], [1.0, 2.0], size=(3, 2))
    assert x.eval().shape == (3, 2)
    np.testing.assert_array_equal(srng.random(4).eval(), numpy_stream(3, 1).random(4))


# Gradients ------------------------------------------------------------------------------------------------


def test_gradients_with_respect_to_location_and_scale():
    mean, deviation = T.dvector("mean"), T.dscalar("deviation")
    z = RandomStreams(4).normal((5, 3), mean, deviation)
    f = symtensor.function([mean, deviation], [z, *T.grad((z * z).sum(), [mean, deviation])])
    m = np.array([1.0, 2.0, 3.0])
    drawn, by_mean, by_deviation = f(m, 2.0)
    np.testing.assert_allclose(by_mean, 2 * drawn.sum(0))
    np.testing.assert_allclose(by_deviation, (2 * drawn * (drawn - m) / 2.0).sum())


def test_gradients_with_respect_to_bounds():
    low, high = T.dscalar("low"), T.dscalar("high")
    u = RandomStreams(4).uniform((5,), low, high)
    f = symtensor.function([low, high], [u, *T.grad(u.sum(), [low, high])])
    drawn, by_low, by_high = f(1.0, 3.0)
    share = (drawn - 1) / 2
    np.testing.assert_allclose([by_low, by_high], [(1 - share).sum(), share.sum()])


def test_counts_have_no_gradient_but_masks_pass_it_on():
    x, p = T.dvector("x"), T.dscalar("p")
    mask = RandomStreams(4).binomial(x.shape, p=p, dtype="float64")
    f = symtensor.function([x, p], [mask, T.grad((mask * x).sum(), x)])
    drawn, by_x = f(np.ones(20), 0.5)
    np.testing.assert_array_equal(drawn, by_x)


# Loops ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(), (3,)], ids=str)
def test_each_step_of_a_loop_draws_anew(size):
    u = RandomStreams(8).uniform(size)
    walk, updates = symtensor.scan(lambda x: x + u, outputs_info=T.zeros(size), n_steps=5)
    f = symtensor.function([], walk, updates=updates)
    generator = numpy_stream(8)
    for _ in range(2):
        np.testing.assert_allclose(f(), np.cumsum([generator.random(size) for _ in range(5)], axis=0), rtol=1e-14)


def test_the_way_of_the_tutorials():
    srng = T.shared_randomstreams.RandomStreams(np.random.RandomState(1).randint(2**30))
    assert srng.binomial(size=(3, 4), n=1, p=0.7, dtype=symtensor.config.floatX).eval().shape == (3, 4)
