"""Drawn sizes and extreme values against float64 arithmetic written out here.

The operator and its kernels have theirs in ``test_functional.py`` and ``kernels/test_kernels.py``.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ugmm_tutorial import UGMMLayer, density, kernels, layers, uncertainty
from ugmm_tutorial.functional import max_log_density, responsibilities

DRAWN = settings(max_examples=40, deadline=None, derandomize=True, database=None)
SPARSE = ["reference"] + (["numba"] if kernels.unavailable("numba") is None else [])


def _floats(most):
    return st.floats(-most, most, width=32)


INPUTS = st.one_of(_floats(5), st.sampled_from([-1e3, 1e3, 0.0]))


@st.composite
def parameters(draw, inputs=INPUTS):
    """x (B, K) and mean, log_std, log_weight (J, K), as lists of floats that float32 holds."""
    b, j, k = (draw(st.integers(low, 5)) for low in (0, 1, 1))
    kinds = (inputs, _floats(5), _floats(4), st.one_of(_floats(5), st.just(-80.0)))
    shapes = ((b, k), (j, k), (j, k), (j, k))
    return [
        draw(hnp.arrays(np.float32, s, elements=e.map(np.float32)))
        for s, e in zip(shapes, kinds, strict=True)
    ]


def terms_of(x, mean, log_std, log_weight):
    """Terms (J, K) of one example, by Python's floats."""
    return [
        [
            w - s - 0.5 * math.log(2 * math.pi) - 0.5 * ((v - m) / math.exp(s)) ** 2
            for v, m, s, w in zip(x, *row, strict=True)
        ]
        for row in zip(mean.tolist(), log_std.tolist(), log_weight.tolist(), strict=True)
    ]


def logsumexp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


@given(parameters())
@DRAWN
def test_responsibilities_and_the_largest_term(args):
    shares, largest = (
        f(*(torch.from_numpy(a).double() for a in args)) for f in (responsibilities, max_log_density)
    )
    for n, x in enumerate(args[0].tolist()):
        terms = terms_of(x, *args[1:])
        want = [[math.exp(t - logsumexp(row)) for t in row] for row in terms]
        torch.testing.assert_close(shares[n], torch.tensor(want, dtype=torch.float64), rtol=1e-8, atol=1e-12)
        want = torch.tensor([max(row) for row in terms], dtype=torch.float64)
        torch.testing.assert_close(largest[n], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", SPARSE)
@given(args=parameters(), seed=st.integers(0, 99))
@DRAWN
def test_the_sparse_operator(backend, args, seed):
    x, *rest = args
    index = np.random.default_rng(seed).integers(0, x.shape[1], rest[0].shape)
    out = layers.sparse_log_density(
        torch.from_numpy(x), torch.from_numpy(index), *map(torch.from_numpy, rest), backend=backend
    )
    want = [
        [
            logsumexp(terms_of(row[index[j]].tolist(), *(p[j : j + 1] for p in rest))[0])
            for j in range(len(index))
        ]
        for row in x
    ]
    want = torch.tensor(want, dtype=torch.float64).reshape(out.shape)
    # An error of one rounding in a distance z becomes one of z * z roundings in the term.
    torch.testing.assert_close(out.double(), want, rtol=3e-6, atol=3e-5)


@given(parameters())
@DRAWN
def test_a_layer_in_its_bounds(args):
    x, mean, log_std, logits = (torch.from_numpy(a).double() for a in args)
    layer = UGMMLayer(mean.shape[1], len(mean), min_std=0.1, max_std=10.0, dtype=torch.float64)
    with torch.no_grad():
        for parameter, value in zip(
            (layer.mean, layer.log_std, layer.mix_logits), (mean, log_std, logits), strict=True
        ):
            parameter.copy_(value)
    bounded = log_std.clamp(math.log(0.1), math.log(10.0)).numpy()
    weight = np.array([[w - logsumexp(row) for w in row] for row in logits.tolist()])
    want = [
        [logsumexp(row) for row in terms_of(v, args[1].astype(float), bounded, weight)] for v in x.tolist()
    ]
    want = torch.tensor(want, dtype=torch.float64).reshape(len(x), len(mean))
    torch.testing.assert_close(layer(x).detach(), want, rtol=1e-9, atol=1e-9)


@given(parameters(_floats(5)))
@DRAWN
def test_a_diagonal_mixture(args):
    x, mean, log_std, logits = (torch.from_numpy(a).double() for a in args)
    model = density.DiagonalGaussianMixture(mean.shape[1], len(mean), min_std=1e-3, dtype=torch.float64)
    with torch.no_grad():
        model.leaves[0].mean.copy_(mean)
        model.leaves[0].log_std.copy_(log_std)
        model.sum_logits[-1].copy_(logits[:, 0])
    zero = np.zeros(mean.shape)
    weight = logits[:, 0].tolist()
    want = []
    for row in x.tolist():
        terms = terms_of(row, args[1].astype(float), args[2].astype(float), zero)
        sums = [w + math.fsum(t) for w, t in zip(weight, terms, strict=True)]
        want.append(logsumexp(sums) - logsumexp(weight))
    torch.testing.assert_close(
        model.log_prob(x).detach(), torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


@given(st.integers(1, 12), st.integers(2, 4), st.floats(0, 300), st.integers(0, 99))
@DRAWN
def test_metrics(rows, classes, sharpness, seed):
    random = np.random.default_rng(seed)
    logits = sharpness * random.standard_normal((rows, classes))
    p = np.exp(logits - np.array([[logsumexp(row)] for row in logits.tolist()]))
    y = random.integers(0, classes, rows)
    right = [p[n, y[n]] for n in range(rows)]
    brier = math.fsum((p[n, c] - (c == y[n])) ** 2 for n in range(rows) for c in range(classes)) / rows
    assert uncertainty.brier_score(p, y) == pytest.approx(brier, rel=1e-9, abs=1e-12)
    eps = np.finfo(np.float64).eps
    nll = math.fsum(-math.log(min(max(q, eps), 1 - eps)) for q in right) / rows
    assert uncertainty.negative_log_likelihood(p, y) == pytest.approx(nll, rel=1e-9, abs=1e-9)
    assert uncertainty.accuracy(p, y) == pytest.approx(
        np.mean([row.argmax() == c for row, c in zip(p, y, strict=True)])
    )
    entropy = [math.fsum(-q * math.log(q) for q in row if q > 0) for row in p.tolist()]
    torch.testing.assert_close(
        uncertainty.entropy(torch.from_numpy(p)),
        torch.tensor(entropy, dtype=torch.float64),
        rtol=1e-9,
        atol=1e-12,
    )
    inside, outside = np.round(logits[:, 0], 1), np.round(logits[:, 1], 1)
    pairs = [(o > i) + 0.5 * (o == i) for i in inside for o in outside]
    assert uncertainty.auroc(inside, outside) == pytest.approx(float(np.mean(pairs)))
