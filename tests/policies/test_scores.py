"""Score files read exactly, and every bad one is a line that says where."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roadwork_core.errors import ExitCode, UsageError
from roadwork_core.policies import read_scores

GOOD = "logit_0,logit_1,label,group\n0.5,1.5,1,a\n2.0,-1.0,0,b\n0.25,0.5,1,a\n"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "scores.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_gives_logits_labels_and_group_codes(tmp_path: Path) -> None:
    scores = read_scores(written(tmp_path, GOOD))
    assert scores.logits.tolist() == [[0.5, 1.5], [2.0, -1.0], [0.25, 0.5]]
    assert scores.logits.dtype == np.float64
    assert scores.labels is not None
    assert scores.labels.tolist() == [1, 0, 1]
    assert scores.groups is not None
    assert scores.groups.tolist() == [0, 1, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(2, 4)), elements=st.floats(-1e200, 1e200)))
def test_floats_survive_both_formats_exactly(tmp_path: Path, logits: np.ndarray) -> None:
    names = [f"logit_{index}" for index in range(logits.shape[1])]
    rows = [",".join(names), *(",".join(map(repr, row)) for row in logits.tolist())]
    assert np.array_equal(read_scores(written(tmp_path, "\n".join(rows)), labelled=False).logits, logits)
    table = pa.table({name: logits[:, index] for index, name in enumerate(names)})
    pyarrow.parquet.write_table(table, tmp_path / "scores.parquet")
    assert np.array_equal(read_scores(tmp_path / "scores.parquet", labelled=False).logits, logits)


def test_parquet_and_csv_of_the_same_samples_are_the_same_scores(tmp_path: Path) -> None:
    table = pa.table(
        {"group": ["a", "b", "a"], "label": [1, 0, 1], "logit_1": [1.5, -1.0, 0.5], "logit_0": [0.5, 2.0, 0.25]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "named_anything")
    assert read_scores(tmp_path / "named_anything").digest == read_scores(written(tmp_path, GOOD)).digest


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    text = '\ufeffpath,logit_1,logit_0,label\r\n"a, b",1.5,0.5,1\r\n\r\nc,-1,2e0, 0\r\n'
    scores = read_scores(written(tmp_path, text))
    assert scores.logits.tolist() == [[0.5, 1.5], [2.0, -1.0]]
    assert scores.groups is None


def test_logits_beyond_the_tenth_are_in_the_order_of_their_number(tmp_path: Path) -> None:
    names = [f"logit_{index}" for index in range(12)]
    text = ",".join(sorted(names)) + "\n" + ",".join(name[6:] for name in sorted(names)) + "\n"
    assert read_scores(written(tmp_path, text), labelled=False).logits.tolist() == [[float(i) for i in range(12)]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("logit_0,logit_1,label\n", "has a header and no rows"),
        ("logit_0,label\n1,0\n", r"there is no column logit_1 \(columns: logit_0, label\)"),
        ("logit_0,logit_2,label\n1,2,0\n", "there is no column logit_1"),
        ("logit_0,logit_1\n1,2\n", "there is no column label"),
        ("logit_0,logit_0,logit_1,label\n1,1,2,0\n", r"scores.csv:1: the column 'logit_0' is there twice"),
        (GOOD + "1,2,0\n", r"scores.csv:5: has 3 columns, the header has 4"),
        (GOOD.replace("-1.0", "x"), r"scores.csv:3: column logit_1: 'x' is not a number"),
        (GOOD.replace("-1.0", ""), r"scores.csv:3: column logit_1: is empty"),
        (GOOD.replace("-1.0", "nan"), r"scores.csv:3: column logit_1: 'nan' is not a finite number"),
        (GOOD.replace("0.25", "1e999"), r"scores.csv:4: column logit_0: '1e999' is not a finite number"),
        (GOOD.replace("0.25", "1e308"), r"'1e308' is not a finite number below 1e\+\d+ in magnitude"),
        (GOOD.replace("-1.0,0", "-1.0,2"), r"scores.csv:3: column label: '2' is not a class index from 0 to 1"),
        (GOOD.replace("-1.0,0", "-1.0,roadwork"), r"scores.csv:3: column label: 'roadwork' is not a class index"),
        (GOOD.replace("-1.0,0", "-1.0,-1"), r"scores.csv:3: column label: '-1' is not a class index"),
        (GOOD.replace(",b\n", ",\n"), r"scores.csv:3: column group: is empty"),
        (GOOD + '"1,2,0,a\n', r"scores.csv:5: is not CSV: unexpected end of data"),
        (b"\xff\xfe\x00", "is neither CSV in UTF-8 nor Parquet"),
        (b"PAR1 and no more", "is not Parquet that can be read"),
    ],
)
def test_a_bad_file_is_one_line_that_says_where(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read_scores(written(tmp_path, text))
    assert error.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"logit_0": [1.0, None], "logit_1": [0.0, 0.0], "label": [0, 1]}, "row 1, column logit_0: None is not"),
        ({"logit_0": [1.0, 2.0], "logit_1": [0.0, 0.0], "label": [0, 7]}, "row 1, column label: 7 is not a class"),
        ({"logit_0": ["a", "b"], "logit_1": [0.0, 0.0], "label": [0, 1]}, "row 0, column logit_0: 'a' is not a number"),
        ({"logit_0": [[1.0], [2.0]], "logit_1": [0.0, 0.0], "label": [0, 1]}, "row 0, column logit_0"),
    ],
)
def test_a_bad_parquet_cell_is_named_by_row_and_column(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "scores.parquet")
    with pytest.raises(UsageError, match=message):
        read_scores(tmp_path / "scores.parquet")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.csv: cannot read scores: No such file"):
        read_scores(tmp_path / "none.csv")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_at_all_cause_more_than_a_usage_error(tmp_path: Path, content: bytes) -> None:
    for prefix in (b"", b"logit_0,logit_1,label\n"):
        with contextlib.suppress(UsageError):
            read_scores(written(tmp_path, prefix + content))


def test_the_digest_changes_with_any_value(tmp_path: Path) -> None:
    texts = [GOOD, GOOD.replace("0.25", "0.26"), GOOD.replace("0.5,1,a", "0.5,0,a"), GOOD.replace(",b\n", ",a\n")]
    assert len({read_scores(written(tmp_path, text)).digest for text in texts}) == 4
