"""What must agree between tables."""

from __future__ import annotations

import pytest

from .conftest import lines
from .toys import MINIMAL, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[data.splits]\ntrain = 0.7\n",
            ["<text>:8 data.splits: the fractions must sum to 1, got 0.7 + 0.15 + 0.15 + 0.1 = 1.1"],
        ),
        (
            "[data.splits]\ntrain = 0.6\nval_calib = 0.0\nval_select = 0.3\n",
            ["<text>:10 data.splits.val_calib: val_calib must be above 0 (the policies are fitted on it)"],
        ),
        (
            "[data.splits.assign]\ndev = []\n",
            ['<text>:9 data.splits.assign.dev: assigns "dev" to no split (known: train, val_select, val_calib, test)'],
        ),
        (
            "[data.splits.assign]\ndev = ['test', 'test']\n",
            ['<text>:9 data.splits.assign.dev: names a split twice for "dev"'],
        ),
        (
            "[policy.a]\nuse = 'hybrid'\nfast = 'a'\nrobust = 'c'\n",
            [
                "<text>:8 policy.a: policies need each other in a circle: a -> a",
                '<text>:11 policy.a.robust: needs the policy "c", which the spec does not have (known: a)',
            ],
        ),
        (
            "[policy.a]\nuse = 'hybrid'\nfast = 'b'\nrobust = 't'\n"
            "[policy.b]\nuse = 'hybrid'\nfast = 'a'\nrobust = 't'\n"
            "[policy.t]\nuse = 'threshold'\n[bundle]\nactive = 't'\n",
            ["<text>:8 policy.a: policies need each other in a circle: a -> b -> a"],
        ),
        (
            "[policy]\n",
            ['<text>:8 policy: a spec needs at least one policy (write [policy.threshold] with use = "threshold")'],
        ),
        (
            "[policy.a]\nuse = 'threshold'\n[policy.b]\nuse = 'scrc'\n",
            [
                "<text>:1 bundle.active: must be named: the spec has 2 policies"
                ' (write [bundle] active = "..."; policies: a, b)'
            ],
        ),
        (
            "[bundle]\nactive = 'treshold'\nfallback = 'x'\n",
            [
                '<text>:9 bundle.active: "treshold" is not a policy of the spec (did you mean "threshold"?)',
                '<text>:10 bundle.fallback: "x" is not a policy of the spec (known: threshold)',
            ],
        ),
        (
            "[policy.'../x']\nuse = 'threshold'\n",
            [
                '<text>:8 policy."../x": the policy name "../x" cannot be a file name'
                " (it must match [A-Za-z0-9][A-Za-z0-9._-]{0,99})"
            ],
        ),
        ("[[augment]]\nuse = 'mixup'\n", ['<text>:8 augment.0.on: works on whole batches (write on = "batch")']),
        (
            "[[augment]]\nuse = 'flip'\non = 'batch'\n",
            ['<text>:10 augment.0.on: works on single pictures (write on = "sample", or leave it out)'],
        ),
        (
            "[loss]\nuse = 'focal'\n[[augment]]\nuse = 'mixup'\non = 'batch'\n",
            [
                "<text>:10 augment.0: mixes labels, which this loss cannot take"
                " (use a loss with soft targets, or leave this augmentation out)"
            ],
        ),
        (
            "[train]\nfeature_cache = 'on'\n[[augment]]\nuse = 'flip'\n",
            [
                "<text>:9 train.feature_cache: augmented pictures differ from epoch to epoch"
                " (feature_views = 4 keeps four views of each picture, or leave the augmentations out)"
            ],
        ),
        (
            "[train]\nfeature_views = 2\n[[augment]]\nuse = 'flip'\n[[augment]]\nuse = 'mixup'\non = 'batch'\n",
            [
                "<text>:9 train.feature_views: features of single pictures cannot be kept where a batch is mixed"
                ' (leave out the augmentations with on = "batch")'
            ],
        ),
        (
            "[train]\nfeature_views = 2\n",
            ["<text>:9 train.feature_views: no augmentation makes views that differ (leave it out)"],
        ),
        (
            "[train]\nfeature_cache = 'off'\nfeature_views = 2\n[[augment]]\nuse = 'flip'\n",
            ['<text>:10 train.feature_views: says how many views to keep, but feature_cache is "off" (remove one)'],
        ),
    ],
)  # fmt: skip
def test_tables_that_do_not_agree(text: str, expected: list[str]) -> None:
    assert lines(MINIMAL + text) == expected


def test_classes_and_the_positive_one() -> None:
    text = MINIMAL.replace("[backbone]", "classes = ['a', 'b', 'a']\npositive = 'c'\n[backbone]")
    assert lines(text) == [
        "<text>:6 data.classes: names a class twice",
        '<text>:7 data.positive: "c" is not one of data.classes (known: a, b, a)',
    ]


def test_a_head_that_reads_tokens_needs_a_backbone_that_gives_them() -> None:
    text = MINIMAL + "[head]\nuse = 'token_pool'\n"
    assert lines(text) == [
        '<text>:8 head: reads tokens, which this backbone does not give (use another head, such as "linear")'
    ]
    assert resolve(text.replace('"tiny"', '"patches"'))


def test_features_of_a_head_that_reads_tokens_are_not_kept() -> None:
    text = MINIMAL.replace('"tiny"', '"patches"') + "[head]\nuse = 'token_pool'\n[train]\nfeature_cache = 'on'\n"
    assert lines(text) == [
        "<text>:11 train.feature_cache: the head reads tokens, and features alone are kept"
        ' (leave it out, or use a head that reads features, such as "linear")'
    ]
    assert resolve(text.replace("'on'", "'auto'"))


@pytest.mark.parametrize(
    "text",
    [
        "[data.splits]\ntrain = 0.7\nval_select = 0.1\nval_calib = 0.1\ntest = 0.1\n",  # 0.9999999999999999
        "[data.splits]\ntrain = 1\nval_select = 1\nval_calib = 1\ntest = 1\n"
        "assign = { train = ['train'], dev = ['val_select', 'val_calib'], eval = ['test'] }\n",
        "[data.splits]\nval_calib = 0\n"
        "assign = { a = ['train'], b = ['val_calib'], c = ['val_select'], d = ['test'] }\n",
        "[policy.a]\nuse = 'hybrid'\nfast = 't'\nrobust = 's'\n[policy.t]\nuse = 'threshold'\n"
        "[policy.s]\nuse = 'scrc'\n[bundle]\nactive = 'a'\nfallback = 't'\n",
        "[[augment]]\nuse = 'mixup'\non = 'batch'\n",
        "[train]\nfeature_cache = 'on'\nfeature_views = 2\n[[augment]]\nuse = 'flip'\n",
        "[train]\nfeature_cache = 'on'\n",
    ],
)
def test_tables_that_agree(text: str) -> None:
    assert resolve(MINIMAL + text)
