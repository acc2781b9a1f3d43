"""Kernels and programs have one text: their digests are the keys of the cache that all processes share."""

import json
from pathlib import Path

import pytest

from tests.faults.processes import output, start

pytestmark = pytest.mark.faults

# Strings are hashed with another seed in each process, and objects lie at other addresses: an iteration over a set
# of either has another order.
PROGRAM = """
import json, sys

shift = int(sys.argv[1])
ballast = [bytes(16 * size) for size in range(32) for _ in range(shift * (size + 1) % 7)]

import numpy as np
import symtensor.tensor as T
from symtensor import function, shared

x, y, v, w, t = T.dmatrix("x"), T.dmatrix("y"), T.dvector("v"), T.dvector("w"), T.dtensor3("t")
n, m, k, z = T.lvector("n"), T.lvector("m"), T.lscalar("k"), T.TensorType("complex128", (None, None))("z")
W, V, b = shared(np.ones((4, 3)), "W"), shared(np.zeros((4, 3)), "V"), shared(np.zeros(3), "b")
p = T.nnet.softmax(T.dot(x, W) + b)
cost = -T.mean(T.log(p)[T.arange(n.shape[0]), n]) + 0.01 * (W**2).sum()
gW, gb = T.grad(cost, [W, b])
xent = T.nnet.binary_crossentropy(T.nnet.sigmoid(T.dot(x, v) + w.sum()), w).mean()
made = {
    "momentum": ([x, n], [cost, p.argmax(axis=1)], {W: W + V * 0.9 - gW, V: V * 0.9 - gW, b: b - gb}),
    "logistic": ([x, v, w], [xent, *T.grad(xent, [v, w])], {}),
    "reductions": ([x], [x.sum(0), x.var(), x.max(axis=1), T.logsumexp(x, axis=0), T.argmin(x, 0), x.prod()], {}),
    "checks": ([x, n, m], [x[n, m], x[m][:, n].sum(), T.inc_subtensor(x[n], 1.0), x[n[0] : m[1]]], {}),
    "gathers": ([x, n], T.grad((T.tanh(x[n]) * x[n, n].dimshuffle(0, "x")).sum(), [x]), {}),
    "products": ([x, y, t], [T.dot(x + 1, y), T.batched_dot(t, t.dimshuffle(0, 2, 1)), T.einsum("ij,kj->", x, y)], {}),
    "sizes": ([x, k], [T.zeros((x.shape[0] * k, k)), x.reshape((k, -1)), T.arange(k), x[x > 0]], {}),
    "moved": ([x, t], [x[::-1, 1:], T.concatenate([x, x * 2], 1), t.dimshuffle(2, 0, 1)[1:], T.roll(x, 2, 1)], {}),
    "complex": ([z], [T.exp(z) * z, T.real(z * z.T)], {}),
    "second": ([v], [T.hessian((T.tanh(v) ** 3).sum(), v), T.cumsum(v)], {}),
}
texts, compiled = {}, 0
for name, (inputs, outputs, updates) in made.items():
    f = function(inputs, outputs, updates=updates)
    texts[name] = [f.source(kind) for kind in ("loops", "program", "llvm")]
    compiled += f.compilation.native.compiled
json.dump([compiled, texts], sys.stdout)
"""


def test_the_text_is_the_same_in_every_process(tmp_path: Path) -> None:
    running = [start(PROGRAM, tmp_path, seed, PYTHONHASHSEED=seed) for seed in ("0", "1")]
    (mine, first), (others, second) = [json.loads(output(process)) for process in running]
    assert mine + others >= 10
    for name, texts in first.items():
        for one, other in zip(texts, second[name], strict=True):
            assert one.splitlines() == other.splitlines(), name
    compiled, third = json.loads(output(start(PROGRAM, tmp_path, "2", PYTHONHASHSEED="2")))
    assert third == first
    assert compiled == 0, "kernels were not found in the cache"
